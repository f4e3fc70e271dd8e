"""Every metric the services export: one place for name, kind, unit, labels and buckets.

OpenTelemetry GenAI names where they cover the thing (`gen_ai_server_*` is what we serve, `gen_ai_client_*` what we
pull; the difference is our own cost), `headrace_*` for the rest. Base units, `_total` on counters only, no label that
a client can make up.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["CATALOG", "Metric"]

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One row of the catalogue."""

    name: str  #: without `_total` for counters; the exposition adds it
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_DURATION: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
# OpenTelemetry's list, with 0.2 and 0.3 for objectives and Envoy's tail for long prefills.
_TTFT: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 20.0, 30.0, 45.0, 60.0),
)
_PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
#: Gaps start at 1 ms: OpenTelemetry's floor of 10 ms is too coarse to see jitter.
_GAP: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0),
    *(5.0, 10.0, 30.0),
)

STREAM_DURATION: Final = Metric(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "From the request's last byte to the end of the answer.",
    ("operation", "model", "outcome"),
    _DURATION,
)
STREAM_TTFT: Final = Metric(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "From the request's last byte to the first event written.",
    ("operation", "model"),
    _TTFT,
)
STREAM_PER_TOKEN: Final = Metric(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "(Duration - TTFT) / later tokens, a mean for each stream.",
    ("operation", "model"),
    _PER_TOKEN,
)
STREAM_GAP: Final = Metric(
    "headrace_stream_gap_seconds",
    "histogram",
    "Time between two writes of events to one client.",
    ("model",),
    _GAP,
)
STREAM_LONGEST_GAP: Final = Metric(
    "headrace_stream_longest_gap_seconds",
    "histogram",
    "The longest gap of each stream: what its reader felt as a stall.",
    ("model",),
    _GAP,
)
STREAMS: Final = Metric(
    "headrace_streams",
    "counter",
    "Requests that ended, by how.",
    ("operation", "model", "outcome", "code"),
)
STREAMS_OPEN: Final = Metric("headrace_streams_open", "gauge", "Requests that have not ended.")
STREAM_EVENTS: Final = Metric("headrace_stream_events", "counter", "Data events delivered.", ("model",))
HEARTBEATS: Final = Metric("headrace_heartbeats", "counter", "Heartbeat comments written.")
DISCONNECTS: Final = Metric(
    "headrace_disconnects",
    "counter",
    "Clients gone before the end, by phase and cause.",
    ("phase", "cause"),
)
PAUSES: Final = Metric("headrace_pauses", "counter", "Times that a slow reader paused its upstream.")
PAUSED: Final = Metric("headrace_paused_seconds", "counter", "Time that upstreams spent paused by slow readers.")
BUFFERED: Final = Metric("headrace_buffered_bytes", "gauge", "Bytes held in this process, by account.", ("account",))

ATTEMPT_DURATION: Final = Metric(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "From the request being sent to an engine to the end of its body.",
    ("operation", "model", "backend", "outcome"),
    _DURATION,
)
ATTEMPT_FIRST_CHUNK: Final = Metric(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "From the request being sent to an engine to its first event.",
    ("operation", "model", "backend"),
    _TTFT,
)
TOKENS: Final = Metric(
    "gen_ai_client_token_usage_tokens",
    "counter",
    "Tokens by the engines' own usage figures.",
    ("model", "backend", "type"),
)
ATTEMPTS: Final = Metric(
    "headrace_attempts", "counter", "Upstream attempts that ended, by how.", ("backend", "outcome")
)
ATTEMPTS_INFLIGHT: Final = Metric(
    "headrace_attempts_inflight", "gauge", "Permits held at each backend.", ("backend",)
)
RETRIES: Final = Metric("headrace_retries", "counter", "Second and later attempts, by why.", ("why",))
BREAKER_OPEN: Final = Metric("headrace_breaker_open", "gauge", "1 while a backend's breaker is open.", ("backend",))
UPSTREAM_CONNECTIONS: Final = Metric(
    "headrace_upstream_connections", "gauge", "Connections to engines.", ("backend", "state")
)
ROUTES: Final = Metric("headrace_routes", "counter", "Route look-ups, by where the answer came from.", ("source",))
CONTROL_AGE: Final = Metric("headrace_control_age_seconds", "gauge", "Time since control was last heard.")

CONTROL_ANSWERS: Final = Metric(
    "headrace_control_answers",
    "counter",
    "Route questions answered, by outcome: `routed`, or a shed's code.",
    ("outcome",),
)
CONTROL_SYNCS: Final = Metric("headrace_control_syncs", "counter", "Sync polls answered.")
CONTROL_REFUSED: Final = Metric("headrace_control_refused", "counter", "Requests to control answered with an error.")
CONTROL_PROBES: Final = Metric("headrace_control_probes", "counter", "Probes of backends, by result.", ("result",))
CONTROL_EDGES: Final = Metric("headrace_control_edges", "gauge", "Edges that are alive.")
CONTROL_WAITING: Final = Metric("headrace_control_waiting", "gauge", "Sync polls that wait for news.")
BACKEND_UP: Final = Metric(
    "headrace_backend_up", "gauge", "1 while control's probes find a backend healthy.", ("backend",)
)

CATALOG: Final[tuple[Metric, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
