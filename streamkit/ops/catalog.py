"""Every metric the services export: one place for name, kind, unit, labels and buckets.

OpenTelemetry GenAI names where they cover the thing (`gen_ai_server_*` is what we serve, `gen_ai_client_*` what we
pull; the difference is our own cost), `headrace_*` for the rest. Base units, `_total` on counters only, no label that
a client can make up.
"""

from __future__ import annotations

from typing import Final

from streamkit.ops.avatar_metrics import *  # noqa: F403  its rows are rows of this catalogue
from streamkit.ops.compositor_metrics import *  # noqa: F403  as above
from streamkit.ops.edge_metrics import *  # noqa: F403  as above
from streamkit.ops.metric import FRAME, Metric
from streamkit.ops.observe_metrics import *  # noqa: F403  as above
from streamkit.ops.speech_metrics import *  # noqa: F403  as above

__all__ = ["CATALOG", "Metric"]

CONTROL_ANSWERS: Final = Metric(
    "headrace_control_answers",
    "counter",
    "Route questions answered, by outcome: `routed`, or a shed's code.",
    ("outcome",),
)
CONTROL_SYNCS: Final = Metric("headrace_control_syncs", "counter", "Sync polls answered.")
CONTROL_REFUSED: Final = Metric("headrace_control_refused", "counter", "Requests to control answered with an error.")
CONTROL_PROBES: Final = Metric("headrace_control_probes", "counter", "Probes of backends, by result.", ("result",))
CONTROL_STORE_ERRORS: Final = Metric(
    "headrace_control_store_errors",
    "counter",
    "Looks at the key store that failed; the keys before it stay in force.",
)
CONTROL_EDGES: Final = Metric("headrace_control_edges", "gauge", "Edges that are alive.")
CONTROL_WAITING: Final = Metric("headrace_control_waiting", "gauge", "Sync polls that wait for news.")
BACKEND_UP: Final = Metric(
    "headrace_backend_up", "gauge", "1 while control's probes find a backend healthy.", ("backend",)
)
CONTROL_SIGNALS: Final = Metric(
    "headrace_control_signals",
    "counter",
    "Messages of arbiters: taken, or why not (malformed, older, replayed, claimed, too_many).",
    ("result",),
)
BACKEND_PRESSURE: Final = Metric(
    "headrace_backend_pressure",
    "gauge",
    "What a backend's arbiter last said: 0 ok, 1 busy, 2 shedding, 3 down; -1 = nothing ever.",
    ("backend",),
)
PRESSURE_CHANGES: Final = Metric(
    "headrace_pressure_changes",
    "counter",
    "Times that an arbiter saw a backend's pressure become this level.",
    ("backend", "level"),
)
BACKEND_ROOM: Final = Metric(
    "headrace_backend_room",
    "counter",
    "Memory of a backend: overrun (over its budget), asked for room, confirmed by measurement, restart commands.",
    ("backend", "what"),
)
ARBITER_AGE: Final = Metric(
    "headrace_arbiter_age_seconds", "gauge", "Time since a host's arbiter was last heard.", ("host",)
)
STATES_PUBLISHED: Final = Metric("headrace_states_published", "counter", "States that an arbiter published.")
NATS_CONNECTED: Final = Metric("headrace_nats_connected", "gauge", "1 while the NATS server is there.")

LEASES_GRANTED: Final = Metric("headrace_leases_granted", "counter", "GPU leases granted.")
LEASES_REFUSED: Final = Metric("headrace_leases_refused", "counter", "GPU leases refused, by why.", ("code",))
LEASE_HANDSHAKE: Final = Metric(
    "headrace_lease_handshake_seconds",
    "histogram",
    "From a request for a lease to its grant, inside the arbiter, waiting included.",
    (),
    (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1, 1.0, 10.0, 100.0),
)
LEASE_EVENTS: Final = Metric("headrace_lease_events", "counter", "What happened to GPU leases, by what.", ("event",))
LEASES_HELD: Final = Metric("headrace_leases", "gauge", "GPU leases that reserve memory, by state.", ("state",))
LEASES_WAITING: Final = Metric("headrace_leases_waiting", "gauge", "Requests for a GPU lease that wait.")
GPU_MEMORY: Final = Metric(
    "headrace_gpu_memory_bytes",
    "gauge",
    "Memory: total, used (measured), reserved, pending (reserved, not used), unleased (used, no lease), free.",
    ("gpu", "what"),
)
GPU_SNAPSHOT_AGE: Final = Metric(
    "headrace_gpu_snapshot_age_seconds", "gauge", "Time since a GPU was last measured; -1 = never.", ("gpu",)
)
LEDGER_LOG: Final = Metric("headrace_ledger_log_bytes", "gauge", "Size of the lease ledger's write-ahead log.")

ENGINE_REQUESTS: Final = Metric(
    "headrace_engine_requests",
    "gauge",
    "What an engine says of its own work, as its host's arbiter reads it, by state: running, waiting.",
    ("backend", "state"),
)
ENGINE_PREFIX: Final = Metric(
    "headrace_engine_prefix_tokens",
    "counter",
    "Tokens that an engine looked up in its prefix cache and found there, by its own counters: queries, hits.",
    ("backend", "what"),
)
ENGINE_CACHE: Final = Metric(
    "headrace_engine_cache_usage_ratio", "gauge", "Part of an engine's KV cache that is taken, 0 to 1.", ("backend",)
)

SERIES_FOLDED: Final = Metric(
    "headrace_series_folded",
    "counter",
    "Times that a metric had too many label sets already, so that a new one was counted as `other`.",
)
SPANS: Final = Metric(
    "headrace_spans", "counter", "Spans of sampled streams, by what became of them: exported, lost.", ("outcome",)
)
TASKS: Final = Metric("headrace_tasks", "gauge", "Live asyncio tasks of this process, counted at a scrape.")
INFERENCE_FRAMES: Final = Metric("headrace_inference_frames", "counter", "Frames that were answered.")
INFERENCE_OUTPUT: Final = Metric("headrace_inference_output_bytes", "counter", "Bytes of the frames answered.")
INFERENCE_FAILED: Final = Metric(
    "headrace_inference_failures", "counter", "Requests not answered, by why.", ("code",)
)
INFERENCE_REQUEST: Final = Metric(
    "headrace_inference_request_seconds", "histogram", "From a request's arrival to its frames.", (), FRAME
)
INFERENCE_WINDOWS: Final = Metric("headrace_inference_windows", "counter", "Windows of sound that were encoded.")
INFERENCE_ENCODE: Final = Metric(
    "headrace_inference_encode_seconds", "histogram", "From a request's arrival to its features.", (), FRAME
)
INFERENCE_RUN: Final = Metric(
    "headrace_inference_run_seconds",
    "histogram",
    "One run of a model, reading and encoding included.",
    (),
    FRAME,
)
INFERENCE_BATCH: Final = Metric(
    "headrace_inference_batch_frames",
    "histogram",
    "Frames, or windows of sound, in a run.",
    (),
    (1, 2, 4, 8, 16, 32, 64, 128, 256),
)
INFERENCE_MODELS: Final = Metric("headrace_inference_models", "gauge", "Models loaded or loading.", ("gpu",))
INFERENCE_MEMORY: Final = Metric(
    "headrace_inference_memory_bytes", "gauge", "What loaded models are charged with.", ("gpu",)
)
INFERENCE_QUEUED: Final = Metric("headrace_inference_queued", "gauge", "Requests that wait for a run.", ("gpu",))
INFERENCE_RUNNING: Final = Metric("headrace_inference_running", "gauge", "Runs under way.", ("gpu",))
INFERENCE_HELD: Final = Metric("headrace_inference_held_bytes", "gauge", "Bytes of requests that are here.")
INFERENCE_VISUALS: Final = Metric("headrace_inference_visuals_bytes", "gauge", "Bytes of registered frames.")
INFERENCE_STREAMS: Final = Metric("headrace_inference_streams", "gauge", "Streams that are open.")

CATALOG: Final[tuple[Metric, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
