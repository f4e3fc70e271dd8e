"""Control's settings: the `[control]` table of `headrace.toml`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamkit.ops.tls import TlsFiles

__all__ = ["ControlSettings"]

_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Ms = Annotated[int, msgspec.Meta(ge=1, le=600_000)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
_Weight = Annotated[float, msgspec.Meta(ge=0, le=1_000)]


class ControlSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What control needs beside the `[[backends]]`. Durations are in milliseconds."""

    #: Address for edges. Its answers carry the engines' keys: anything but loopback needs `edge_secret_env`.
    host: str = "127.0.0.1"
    #: Port for edges; 0 = a free one.
    port: _Port = 7401
    #: Address for health, metrics and events, which ask for no key: keep it private.
    ops_host: str = "127.0.0.1"
    #: Port for health, metrics and events; 0 = a free one.
    ops_port: _Port = 7429

    #: The environment variable with the secret that edges must show (their `control_secret_env`); empty = none is
    #: asked.
    edge_secret_env: str = ""

    #: PEM file with control's certificate and those above it; empty = plain HTTP. Read again when it changes.
    tls_cert: str = ""
    #: PEM file with its key, not encrypted.
    tls_key: str = ""

    #: The file with keys and tenants; empty = `control.db` in the folder `.headrace/7400` here, or in that of
    #: `headrace up`.
    store_path: str = ""
    #: Demand keys though none was ever made. Once there was one, they are demanded anyway.
    require_keys: bool = False
    #: How often the file is looked at; a revoked key is refused after this and a moment.
    store_poll_ms: _Ms = 200

    #: The NATS server on which arbiters publish pressure, `nats://host:port`; empty = nobody is listened to.
    nats_url: Annotated[str, msgspec.Meta(pattern=r"^$|^nats://[^/@\s]+$")] = ""

    #: How long an edge may reuse a set of candidates.
    route_ttl_ms: _Ms = 1_000
    #: How long an edge may repeat a refusal; short, because the next probe may bring a backend.
    shed_ttl_ms: _Ms = 250
    #: How edges choose among candidates: the less loaded of two, or by session.
    policy: Literal["p2c", "affinity"] = "p2c"
    #: Ask a second candidate when the first has sent no event by then; None = never. Off while a backend is busy.
    hedge_after_ms: _Ms | None = None
    #: Share of new work by region; 1.0 for a region that is not named, 0 sends nothing there.
    region_weights: dict[str, _Weight] = {}

    #: Pause between two probes of a backend; each pause is made up to a tenth shorter or longer.
    probe_interval_ms: _Ms = 1_000
    #: Longest wait for each answer of a probe.
    probe_timeout_ms: _Ms = 2_000
    #: Failed probes in a row that take a backend down (the first one does, if it was never up).
    down_after_failures: _Count = 3
    #: Good probes in a row that bring a backend back up (the first one does, if it was never down).
    up_after_successes: _Count = 2
    #: Timed-out probes in a row that take down a backend with requests in flight: llama-server answers nothing else
    #: while its threads are busy with streams.
    down_after_busy_timeouts: _Count = 15

    #: An edge that was not heard of for so long is not live, and has no share of the backends' bounds.
    edge_lost_ms: _Ms = 3_000
    #: Edge instances that are remembered; further ones are refused.
    max_edges: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_024
    #: Syncs that may wait for news at a time; further ones are answered at once.
    max_waits: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 4_096

    #: Time for a request's body to arrive.
    body_timeout_ms: _Ms = 5_000
    #: How long control still accepts after it stopped being ready.
    settle_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    #: Time for answers under way to be written when control stops.
    drain_ms: _Ms = 2_000

    def tls_files(self) -> TlsFiles:
        """Return the files for TLS.

        Raises:
            SettingsError: one is missing.
        """
        return TlsFiles(cert=self.tls_cert, key=self.tls_key)
