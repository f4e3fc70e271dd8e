"""Settings of the edge: the `[edge]` table of `headrace.toml`. Durations end in `_ms`, sizes in `_bytes`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edge.avatars.settings import AvatarSettings, WebRtcSettings
from edge.protocol.cors import ORIGIN
from edge.server.limits import ServerLimits, SocketLimits
from edge.server.peering import PeerTls
from edge.sources.engine import EngineLimits
from edge.sources.peer import PeerLimits
from edge.sources.pool import PoolSettings
from edge.streams.shelf import ShelfSettings
from edge.streams.stream import StreamTimings
from streamkit.ops.exposure import secret_from
from streamkit.ops.settings import SettingsError
from streamkit.ops.tls import TlsFiles
from streamkit.wire.ids import KEY_BYTES

__all__ = ["EdgeSettings"]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Millis = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
Origin = Annotated[str, msgspec.Meta(pattern=rf"^(?:\*|{ORIGIN})\Z")]
KIB = 1024
MIB = 1024 * KIB


class EdgeSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """All settings of one edge process."""

    #: Address to listen on. Anything but loopback needs keys.
    host: str = "127.0.0.1"
    #: Public port; 0 takes a free one.
    port: Port = 7400
    #: Address for health, metrics and events, which ask for no key: keep it private.
    ops_host: str = "127.0.0.1"
    #: Health, metrics and events; never public. Worker `i` has this + `i`.
    ops_port: Port = 7410
    #: Processes that share the public port; each is an edge of its own, with its own memory_bytes. 0 = this process
    #: alone, without a supervisor: then new settings need a restart.
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    #: Name of this machine among edges, `[a-z0-9-]`; empty = its host name.
    node: str = ""
    #: Where this edge stands; candidates of the same region come first.
    region: str = ""
    #: Where control answers.
    control_url: str = "http://127.0.0.1:7401"
    #: The environment variable with the secret that control demands (its `edge_secret_env`); empty = none.
    control_secret_env: str = ""
    #: PEM file with the authorities, or the very certificate, that an https control_url must show; empty = the
    #: system's authorities.
    control_ca: str = ""

    #: Origins whose pages may use this gateway, as browsers write them (`https://app.example`); `*` = all of them.
    cors_origins: tuple[Origin, ...] = ()
    #: PEM file with this edge's certificate and those above it; empty = plain HTTP. Read again when it changes.
    tls_cert: str = ""
    #: PEM file with its key, not encrypted.
    tls_key: str = ""
    #: PEM file with authorities: every client must show a certificate of theirs.
    tls_client_ca: str = ""
    #: The longest life that a client token may be asked for.
    client_token_max_ms: Annotated[int, msgspec.Meta(ge=1_000, le=86_400_000)] = 3_600_000
    #: Largest request body.
    max_body_bytes: Annotated[int, msgspec.Meta(ge=KIB)] = 16 * MIB
    #: Largest header section of a request.
    max_header_bytes: Annotated[int, msgspec.Meta(ge=KIB)] = 32 * KIB
    #: Kept of requests that a client pipelines behind one that is being answered.
    max_pipelined_bytes: Annotated[int, msgspec.Meta(ge=KIB)] = 64 * KIB
    #: Largest event from an engine.
    max_event_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB)] = MIB
    #: Largest non-streaming answer from an engine.
    max_response_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB)] = 32 * MIB
    #: Above all buffers of this process together; beyond it new requests are shed.
    memory_bytes: Annotated[int, msgspec.Meta(ge=16 * MIB)] = 1024 * MIB

    #: A client has this long for its headers, from the first byte or the connection's start.
    header_ms: Millis = 10_000
    #: And this long for its body.
    body_ms: Millis = 60_000
    #: An idle keep-alive connection of a client is closed after this.
    keep_alive_ms: Millis = 15_000
    #: 200 and headers go out by then, with a heartbeat, if no event came before.
    commit_after_ms: Millis = 10_000
    #: Longest silence towards a client before a heartbeat comment.
    heartbeat_ms: Millis = 15_000
    #: A paused reader that takes nothing for so long is cut; keep it below user_timeout_ms, whose cut says less.
    slow_reader_ms: Millis = 20_000
    #: Unacknowledged bytes for so long mean that a client is gone (`TCP_USER_TIMEOUT`).
    user_timeout_ms: Millis = 30_000

    #: TCP connect to an engine.
    connect_ms: Millis = 2_000
    #: From sending a request to the first data event; comments do not count.
    first_event_ms: Millis = 120_000
    #: Longest silence between data events after the first; comments do not count.
    idle_ms: Millis = 60_000
    #: A non-streaming answer must be whole by then.
    response_ms: Millis = 600_000
    #: After a finish_reason a departed client's upstream has this long to deliver its usage.
    finish_grace_ms: Millis = 250
    #: Idle connections to an engine are given up after this; vLLM closes them at 5,000.
    pool_idle_ms: Millis = 4_000
    #: Idle connections kept to each engine.
    pool_idle_max: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 256

    #: Longest wait for a backend's permit while all are taken; below commit_after_ms, so that a refusal is a real
    #: 429. 0 = nobody waits.
    queue_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 5_000
    #: Requests that may wait for the same set of backends; a further one is refused, or takes the room of a lower
    #: class.
    queue_max: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 256
    #: Waiting time that raises a request by one priority class in the queue.
    queue_ageing_ms: Millis = 500
    #: Requests of priority 1 to this evict one of a lower class than their own when all permits are taken, as long as
    #: its answer has not begun. 0 = nobody does.
    evict_classes: Annotated[int, msgspec.Meta(ge=0, le=8)] = 3

    #: How much of a tenant's allowance for a minute may be used at once, in its milliseconds.
    rate_burst_ms: Annotated[int, msgspec.Meta(ge=100, le=60_000)] = 5_000

    #: Retries that a worker may add, for each request of the last ten seconds.
    retry_ratio: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.2
    #: And those in a second that need no requests.
    retry_floor_per_s: Annotated[float, msgspec.Meta(ge=0, le=1_000)] = 5.0
    #: Text of one answer that is remembered where a model's `continuation` is on; a longer one is not continued.
    continuation_bytes: Annotated[int, msgspec.Meta(ge=KIB, le=64 * MIB)] = 256 * KIB
    #: Attempts for one request, the first included.
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    #: Consecutive failures that open a backend's breaker.
    breaker_failures: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 5
    #: How long an open breaker stays open at first; it doubles up to eight times that.
    breaker_open_ms: Millis = 2_000

    #: High mark of a client's write buffer; the low mark is a quarter.
    write_high_bytes: Annotated[int, msgspec.Meta(ge=4 * KIB)] = 64 * KIB
    #: Unsent bytes that the kernel may hold for a client (`TCP_NOTSENT_LOWAT`).
    notsent_bytes: Annotated[int, msgspec.Meta(ge=KIB)] = 16 * KIB
    #: Receive buffer towards engines (`SO_RCVBUF`; the kernel doubles it).
    upstream_rcvbuf_bytes: Annotated[int, msgspec.Meta(ge=4 * KIB)] = 64 * KIB

    #: Longest window that `X-Headrace-Resume` may ask for; 0 = streams cannot be resumed.
    resume_max_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 120_000
    #: Replay ring of a resumable stream: unsent events that fill three quarters pause the upstream.
    ring_bytes: Annotated[int, msgspec.Meta(ge=16 * KIB)] = MIB

    #: Folder of the sockets by which workers of one node reach each other's streams; only this user may enter it.
    #: Empty = `headrace-<uid>` among the temporary files.
    peer_dir: str = ""
    #: Address for edges of other nodes, which show certificates; empty = none, and streams are resumed at their node.
    peer_host: str = ""
    #: Its port; worker i takes the port + i; 0 takes a free one.
    peer_port: Port = 7402
    #: Host name by which they reach it, and which its certificate carries; empty = `peer_host`.
    peer_name: str = ""
    #: Certificate of this edge, towards its peers, and what it demands of theirs; PEM files.
    peer_cert_file: str = ""
    #: The certificate's private key.
    peer_key_file: str = ""
    #: The authority that signs edges' certificates, and nobody else's.
    peer_ca_file: str = ""
    #: The environment variable with the key of stream ids, 64 hex digits, the same at every edge; empty = control's.
    stream_key_env: str = ""

    #: Largest message on a WebSocket, its fragments together.
    ws_message_bytes: Annotated[int, msgspec.Meta(ge=KIB)] = 16 * MIB
    #: Messages a second from one WebSocket, pings and fragments included; twice as many at once.
    ws_messages_per_s: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200
    #: Streams on one WebSocket at a time.
    ws_max_streams: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 128
    #: Credit of a stream whose `start` names none; 0 = its events are not counted, the socket's own pace is enough.
    ws_credit_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Silence of a WebSocket's client after which it is pinged.
    ws_ping_ms: Millis = 20_000
    #: And how long it may go on being silent then.
    ws_pong_ms: Millis = 15_000

    #: Longest wait for a route answer that is not cached.
    route_timeout_ms: Millis = 1_000
    #: Long poll for control's news.
    sync_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=30_000)] = 1_000

    #: Where spans of sampled requests go, by OTLP over HTTP: "http://127.0.0.1:4318/v1/traces". Empty = no traces.
    #: Needs the extra `traces`.
    traces_url: Annotated[str, msgspec.Meta(pattern=r"^(?:https?://\S+)?\Z")] = ""
    #: Part of the requests that is sampled.
    traces_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01

    #: After a drain begins, new requests are still taken for so long, while load balancers notice.
    settle_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    #: Streams under way may finish for so long.
    drain_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 30_000

    #: Faces that speak, and who may watch them.
    avatars: AvatarSettings = AvatarSettings()
    #: How their pictures and sound reach viewers.
    webrtc: WebRtcSettings = WebRtcSettings()

    def server_limits(self) -> ServerLimits:
        """Bounds of a client connection."""
        return ServerLimits(
            max_header_bytes=self.max_header_bytes,
            max_pipelined_bytes=self.max_pipelined_bytes,
            header_s=self.header_ms / 1000,
            body_s=self.body_ms / 1000,
            write_high_bytes=self.write_high_bytes,
            notsent_bytes=self.notsent_bytes,
            user_timeout_ms=self.user_timeout_ms,
        )

    def socket_limits(self) -> SocketLimits:
        """Bounds of a WebSocket."""
        return SocketLimits(
            max_message_bytes=self.ws_message_bytes,
            frames_per_s=self.ws_messages_per_s,
            message_s=self.body_ms / 1000,
            ping_s=self.ws_ping_ms / 1000,
            pong_s=self.ws_pong_ms / 1000,
        )

    def tls_files(self) -> TlsFiles:
        """Return the files for TLS.

        Raises:
            SettingsError: one is missing.
        """
        return TlsFiles(cert=self.tls_cert, key=self.tls_key, client_ca=self.tls_client_ca)

    def stream_timings(self) -> StreamTimings:
        """Deadlines of the client's side."""
        return StreamTimings(
            heartbeat_s=self.heartbeat_ms / 1000,
            commit_after_s=self.commit_after_ms / 1000,
            slow_reader_s=self.slow_reader_ms / 1000,
        )

    def shelf_settings(self) -> ShelfSettings:
        """Bounds of resumable streams; all rings together get half of the process's memory."""
        return ShelfSettings(
            longest_s=self.resume_max_ms / 1000,
            ring_bytes=self.ring_bytes,
            rings_bytes=self.memory_bytes // 2,
            slow_reader_s=self.slow_reader_ms / 1000,
        )

    def peer_tls(self) -> PeerTls | None:
        """Files for links to other nodes; None = there are none.

        Raises:
            SettingsError: some are named and others not, or an address without them.
        """
        names = (self.peer_cert_file, self.peer_key_file, self.peer_ca_file)
        if all(names):
            return PeerTls(cert_file=names[0], key_file=names[1], ca_file=names[2])
        if any(names) or self.peer_host:
            text = "edge.peer_host needs all of peer_cert_file, peer_key_file and peer_ca_file"
            raise SettingsError(text)
        return None

    def stream_key(self) -> bytes | None:
        """Return the key of stream ids, if it does not come from control.

        Raises:
            SettingsError: the variable holds no 32 bytes in hex.
        """
        text = secret_from(self.stream_key_env, "edge.stream_key_env")
        if not text:
            return None
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(f"edge.stream_key_env: {self.stream_key_env} must hold {2 * KEY_BYTES} hex digits")
        return key

    def peer_limits(self) -> PeerLimits:
        """Bounds of a reading that another instance serves."""
        return PeerLimits(
            max_event_bytes=self.max_event_bytes,
            silence_s=max(3 * self.heartbeat_ms, self.connect_ms) / 1000,
            slow_reader_s=self.slow_reader_ms / 1000,
        )

    def engine_limits(self) -> EngineLimits:
        """Bounds on what an engine may send."""
        return EngineLimits(max_event_bytes=self.max_event_bytes, max_response_bytes=self.max_response_bytes)

    def pool_settings(self) -> PoolSettings:
        """How connections to engines are made and kept."""
        return PoolSettings(
            connect_s=self.connect_ms / 1000,
            idle_s=self.pool_idle_ms / 1000,
            max_idle=self.pool_idle_max,
            rcvbuf_bytes=self.upstream_rcvbuf_bytes,
        )
