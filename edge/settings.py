"""Settings of the edge: the `[edge]` table of `headrace.toml`. Durations end in `_ms`, sizes in `_bytes`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edge.server.protocol import ServerLimits
from edge.sources.engine import EngineLimits
from edge.sources.pool import PoolSettings
from edge.streams.stream import StreamTimings

__all__ = ["EdgeSettings"]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Millis = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
KIB = 1024
MIB = 1024 * KIB


class EdgeSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """All settings of one edge process."""

    #: Address to listen on. Anything but loopback needs keys.
    host: str = "127.0.0.1"
    #: Public port; 0 takes a free one.
    port: Port = 7400
    #: Health, metrics and events; never public.
    ops_port: Port = 7410
    #: Name of this machine among edges, `[a-z0-9-]`; empty = its host name.
    node: str = ""
    #: Where this edge stands; candidates of the same region come first.
    region: str = ""
    #: Where control answers.
    control_url: str = "http://127.0.0.1:7401"

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

    #: Longest wait for a route answer that is not cached.
    route_timeout_ms: Millis = 1_000
    #: Long poll for control's news.
    sync_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=30_000)] = 1_000

    #: After a drain begins, new requests are still taken for so long, while load balancers notice.
    settle_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    #: Streams under way may finish for so long.
    drain_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 30_000

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

    def stream_timings(self) -> StreamTimings:
        """Deadlines of the client's side."""
        return StreamTimings(
            heartbeat_s=self.heartbeat_ms / 1000,
            commit_after_s=self.commit_after_ms / 1000,
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
