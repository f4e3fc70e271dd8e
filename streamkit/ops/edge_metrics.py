"""The rows of the catalogue that an edge exports: streams, what they pull, and how they were routed."""

from __future__ import annotations

from typing import Final

from streamkit.ops.metric import ADDED, DURATION, GAP, JITTER, PER_TOKEN, TOKENS, TTFT, Metric

__all__ = [
    "ADDED_DELAY",
    "ATTEMPTS",
    "ATTEMPTS_INFLIGHT",
    "ATTEMPT_DURATION",
    "ATTEMPT_FIRST_CHUNK",
    "ATTEMPT_PER_CHUNK",
    "BACKEND_HELD",
    "BREAKER_OPEN",
    "BUFFERED",
    "CHANNEL",
    "CONTINUATIONS",
    "CONTROL_AGE",
    "DISCONNECTS",
    "EVICTIONS",
    "HEARTBEATS",
    "HEDGES",
    "PAUSED",
    "PAUSES",
    "PEER_REQUESTS",
    "QUEUE_WAIT",
    "QUEUE_WAITING",
    "RATE_LIMITED",
    "REFUSED",
    "REQUESTS",
    "RESUMES",
    "RESUME_EXPIRED",
    "RETRIES",
    "ROUTES",
    "SOCKETS_CLOSED",
    "SOCKETS_OPEN",
    "SOCKET_MESSAGES",
    "STREAMS",
    "STREAMS_DETACHED",
    "STREAMS_KEPT",
    "STREAMS_OPEN",
    "STREAMS_PAUSED",
    "STREAM_DURATION",
    "STREAM_EVENTS",
    "STREAM_GAP",
    "STREAM_JITTER",
    "STREAM_LONGEST_GAP",
    "STREAM_PER_TOKEN",
    "STREAM_TTFT",
    "TAKEOVERS",
    "TOKEN_USAGE",
    "UPSTREAM_CONNECTIONS",
]

#: OpenTelemetry's attributes as Prometheus spells them: what we serve, and what we pull from one backend.
_SERVED: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_PULLED: Final = (*_SERVED, "backend")

# What we serve.

STREAM_DURATION: Final = Metric(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "From the request's last byte to the end of the answer; `error_type` is empty where that ended well.",
    (*_SERVED, "error_type"),
    DURATION,
)
STREAM_TTFT: Final = Metric(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "From the request's last byte to the first event written.",
    _SERVED,
    TTFT,
)
STREAM_PER_TOKEN: Final = Metric(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "(Duration - TTFT) / later tokens, a mean for each stream.",
    _SERVED,
    PER_TOKEN,
)
STREAM_GAP: Final = Metric(
    "headrace_stream_gap_seconds",
    "histogram",
    "Time between two writes of events to one client, by the model that served it.",
    ("model",),
    GAP,
)
STREAM_LONGEST_GAP: Final = Metric(
    "headrace_stream_longest_gap_seconds",
    "histogram",
    "The longest gap of each stream: what its reader felt as a stall.",
    ("model",),
    GAP,
)
STREAM_JITTER: Final = Metric(
    "headrace_stream_jitter_seconds",
    "histogram",
    "Standard deviation of the gaps of each stream.",
    ("model",),
    JITTER,
)
ADDED_DELAY: Final = Metric(
    "headrace_added_delay_seconds",
    "histogram",
    "What the edge added to TTFT: less the engine's own time to its first event, and less the wait in line.",
    ("operation",),
    ADDED,
)
STREAMS: Final = Metric(
    "headrace_streams",
    "counter",
    "Requests that ended, by how.",
    ("operation", "model", "outcome", "code"),
)
REQUESTS: Final = Metric(
    "headrace_requests",
    "counter",
    "Requests that were let in and have ended, by the way they came: sse, json, websocket.",
    ("operation", "transport"),
)
REFUSED: Final = Metric(
    "headrace_refused", "counter", "Requests refused before they were given to a backend, by code.", ("code",)
)
STREAMS_OPEN: Final = Metric("headrace_streams_open", "gauge", "Requests that have not ended.")
STREAM_EVENTS: Final = Metric("headrace_stream_events", "counter", "Data events delivered.", ("model",))
STREAMS_DETACHED: Final = Metric("headrace_streams_detached", "gauge", "Resumable streams that run with no reader.")
STREAMS_KEPT: Final = Metric(
    "headrace_streams_kept", "gauge", "Resumable streams, those that are over and can still be read among them."
)
RESUMES: Final = Metric("headrace_resumes", "counter", "Readers that came back to a stream that nobody read.")
TAKEOVERS: Final = Metric("headrace_takeovers", "counter", "Readers that took a stream over from another one.")
RESUME_EXPIRED: Final = Metric("headrace_resume_windows_expired", "counter", "Resume windows that ran out.")
PEER_REQUESTS: Final = Metric(
    "headrace_peer_requests", "counter", "Requests for a stream relayed to the edge that has it, by link.", ("link",)
)
HEARTBEATS: Final = Metric("headrace_heartbeats", "counter", "Heartbeat comments written.")
DISCONNECTS: Final = Metric(
    "headrace_disconnects",
    "counter",
    "Clients gone before the end, by phase and cause: client (it closed), silent (its network is gone), slow_reader "
    "(cut), expired (nobody came back), stopped (its owner asked for it).",
    ("phase", "cause"),
)
PAUSES: Final = Metric("headrace_pauses", "counter", "Times that a slow reader paused its upstream.")
PAUSED: Final = Metric(
    "headrace_paused_seconds",
    "histogram",
    "Time for which slow readers paused their upstreams, of each stream that was paused.",
    (),
    DURATION,
)
STREAMS_PAUSED: Final = Metric("headrace_streams_paused", "gauge", "Streams whose upstream a slow reader pauses now.")
CHANNEL: Final = Metric(
    "headrace_channel_bytes",
    "gauge",
    "Bytes written for clients that these have not acknowledged, the kernel's included.",
)
BUFFERED: Final = Metric("headrace_buffered_bytes", "gauge", "Bytes held in this process, by account.", ("account",))

SOCKETS_OPEN: Final = Metric("headrace_sockets_open", "gauge", "WebSockets that are open.")
SOCKETS_CLOSED: Final = Metric(
    "headrace_sockets_closed", "counter", "WebSockets that ended, by close code; 1006 = without one.", ("code",)
)
SOCKET_MESSAGES: Final = Metric(
    "headrace_socket_messages", "counter", "Messages from WebSocket clients, by type, or `refused`.", ("type",)
)

# What we pull.

ATTEMPT_DURATION: Final = Metric(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "From the request being sent to an engine to the end of its body; `error_type` is empty where that ended well.",
    (*_PULLED, "error_type"),
    DURATION,
)
ATTEMPT_FIRST_CHUNK: Final = Metric(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "From the request being sent to an engine to its first event.",
    _PULLED,
    TTFT,
)
ATTEMPT_PER_CHUNK: Final = Metric(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "histogram",
    "Time between two reads of events from an engine.",
    _PULLED,
    GAP,
)
TOKEN_USAGE: Final = Metric(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of each operation, by the engines' own usage figures.",
    (*_PULLED, "gen_ai_token_type"),
    TOKENS,
)
ATTEMPTS: Final = Metric(
    "headrace_attempts", "counter", "Upstream attempts that ended, by how.", ("backend", "outcome")
)
ATTEMPTS_INFLIGHT: Final = Metric(
    "headrace_attempts_inflight", "gauge", "Permits held at each backend.", ("backend",)
)
RETRIES: Final = Metric("headrace_retries", "counter", "Second and later attempts, by why.", ("why",))
QUEUE_WAITING: Final = Metric("headrace_queue_waiting", "gauge", "Requests that wait for a backend's permit.")
QUEUE_WAIT: Final = Metric(
    "headrace_queue_wait_seconds",
    "histogram",
    "Time that requests waited for a permit, by how it ended: granted, expired, evicted, shut, left.",
    ("ending",),
    DURATION,
)
EVICTIONS: Final = Metric(
    "headrace_evictions",
    "counter",
    "Requests that gave way to a higher priority before their first event, by where they stood: queued, running.",
    ("where",),
)
HEDGES: Final = Metric(
    "headrace_hedges",
    "counter",
    "Second attempts beside a late one: won, lost, failed; not made for want of: budget, room, and while busy.",
    ("outcome",),
)
CONTINUATIONS: Final = Metric(
    "headrace_continuations",
    "counter",
    "Answers that broke off where continuation is allowed: joined by another engine, failed, unfit for it.",
    ("outcome",),
)
RATE_LIMITED: Final = Metric(
    "headrace_rate_limited",
    "counter",
    "Requests refused by their tenant's limits: requests, tokens, streams.",
    ("tenant_class", "limit"),
)
BREAKER_OPEN: Final = Metric("headrace_breaker_open", "gauge", "1 while a backend's breaker is open.", ("backend",))
BACKEND_HELD: Final = Metric(
    "headrace_backend_held", "gauge", "1 while a healing act keeps this edge's new work from a backend.", ("backend",)
)
UPSTREAM_CONNECTIONS: Final = Metric(
    "headrace_upstream_connections", "gauge", "Connections to engines.", ("backend", "state")
)

# Where to.

ROUTES: Final = Metric(
    "headrace_routes",
    "counter",
    "Route look-ups, by where the answer came from: cache, control, stale (control is silent), none.",
    ("source",),
)
CONTROL_AGE: Final = Metric("headrace_control_age_seconds", "gauge", "Time since control was last heard.")
