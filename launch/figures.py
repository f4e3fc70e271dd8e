"""What `headrace top` says of a gateway, reckoned from what its processes export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from launch.scrapes import Scrape, Window
from streamkit.ops import catalog
from streamkit.ops.catalog import Metric

__all__ = ["BackendFigures", "EdgeFigures", "FaceFigures", "Figures", "GpuFigures", "Process", "figures"]

#: What a process is, by a metric that only its kind exports.
_KINDS: Final = {
    "edge": catalog.STREAMS_OPEN,
    "control": catalog.CONTROL_EDGES,
    "arbiter": catalog.LEASES_WAITING,
    "inference": catalog.INFERENCE_STREAMS,
    "compositor": catalog.COMPOSITOR_SESSIONS,
    "observe": catalog.EVENTS_WAITING,
}
_LEVELS: Final = {-1: "", 0: "ok", 1: "busy", 2: "shedding", 3: "down"}


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process."""

    kind: str
    url: str
    state: str
    #: None = it does not say for how long it has been running.
    cpu_cores: float | None
    rss_bytes: float


class EdgeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One edge; None where there was nothing to measure."""

    url: str
    state: str
    streams: int
    paused: int
    waiting: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    gap_p99_s: float | None
    added_p50_s: float | None
    requests: float
    failed: float
    refused: float
    events: float
    channel_bytes: float


class BackendFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One backend, over all edges."""

    name: str
    #: `up`, `down`; empty = nobody probes it.
    state: str
    #: By its arbiter; empty = it has none.
    pressure: str
    breaker_open: bool
    inflight: int
    #: In the engine's own queue; None = it does not say.
    waiting: int | None
    first_chunk_p95_s: float | None
    gap_p99_s: float | None
    attempts: float
    failed: float


class GpuFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU."""

    host: str
    gpu: str
    total_bytes: float
    used_bytes: float
    reserved_bytes: float
    free_bytes: float
    unleased_bytes: float


class FaceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Avatars; None where nothing was measured."""

    sessions: int
    viewers: int
    #: Requests for mouths that wait for a run.
    mouths_waiting: int
    mouth_p95_s: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway. Counts are those of the window."""

    #: Length of the window; 0 = since each process's start.
    window_s: float
    processes: tuple[Process, ...]
    edges: tuple[EdgeFigures, ...]
    backends: tuple[BackendFigures, ...]
    gpus: tuple[GpuFigures, ...]
    #: None = nothing here makes or shows avatars.
    faces: FaceFigures | None
    leases: dict[str, float]
    leases_waiting: int
    #: Addresses where nobody answers.
    away: tuple[str, ...] = ()


def figures(pairs: Sequence[tuple[Scrape, Scrape | None]], away: Sequence[str] = ()) -> Figures:
    """Return the figures of processes, each as it is now and as it was at the beginning of the window."""
    window = Window(pairs)
    edges = [pair for pair in pairs if pair[0].has(catalog.STREAMS_OPEN)]
    leases = window.level(catalog.LEASES_HELD, "state")
    return Figures(
        window_s=window.seconds(),
        processes=tuple(_process(now, then) for now, then in pairs),
        edges=tuple(_edge(Window([pair])) for pair in edges),
        backends=_backends(window),
        gpus=tuple(gpu for now, _ in pairs for gpu in _gpus(now)),
        faces=_faces(window),
        leases={state: count for state, count in leases.items() if state},
        leases_waiting=int(_one(window.level(catalog.LEASES_WAITING))),
        away=tuple(away),
    )


def _one(values: dict[str, float]) -> float:
    return sum(values.values())


def _process(now: Scrape, then: Scrape | None) -> Process:
    kind = next((kind for kind, metric in _KINDS.items() if now.has(metric)), "other")
    seconds = now.age_s if then is None else now.at_s - then.at_s
    used = _one(Window([(now, then)]).grown("process_cpu_seconds_total"))
    cores = used / seconds if seconds > 0 else None
    rss = _one(now.sum("process_resident_memory_bytes"))
    return Process(kind=kind, url=now.url, state=now.state, cpu_cores=cores, rss_bytes=rss)


def _edge(window: Window) -> EdgeFigures:
    ((now, _),) = window.pairs

    def level(metric: Metric) -> float:
        return _one(window.level(metric))

    return EdgeFigures(
        url=now.url,
        state=now.state,
        streams=int(level(catalog.STREAMS_OPEN)),
        paused=int(level(catalog.STREAMS_PAUSED)),
        waiting=int(level(catalog.QUEUE_WAITING)),
        ttft_p50_s=window.quantile(0.5, catalog.STREAM_TTFT),
        ttft_p95_s=window.quantile(0.95, catalog.STREAM_TTFT),
        gap_p99_s=window.quantile(0.99, catalog.STREAM_GAP),
        added_p50_s=window.quantile(0.5, catalog.ADDED_DELAY),
        requests=_one(window.counted(catalog.STREAMS)),
        failed=_one(window.counted(catalog.STREAMS, outcome="failed")),
        refused=_one(window.counted(catalog.REFUSED)),
        events=_one(window.counted(catalog.STREAM_EVENTS)),
        channel_bytes=level(catalog.CHANNEL),
    )


def _backends(window: Window) -> tuple[BackendFigures, ...]:
    inflight = window.level(catalog.ATTEMPTS_INFLIGHT, "backend")
    up = window.top(catalog.BACKEND_UP, "backend")
    pressure = window.top(catalog.BACKEND_PRESSURE, "backend")
    breakers = window.top(catalog.BREAKER_OPEN, "backend")
    waiting = window.level(catalog.ENGINE_REQUESTS, "backend", state="waiting")
    attempts = window.counted(catalog.ATTEMPTS, "backend")
    failed = window.counted(catalog.ATTEMPTS, "backend", outcome="failed")
    return tuple(
        BackendFigures(
            name=name,
            state={None: "", 1.0: "up"}.get(up.get(name), "down"),
            pressure=_LEVELS.get(int(pressure.get(name, -1)), ""),
            breaker_open=bool(breakers.get(name)),
            inflight=int(inflight.get(name, 0)),
            waiting=int(waiting[name]) if name in waiting else None,
            first_chunk_p95_s=window.quantile(0.95, catalog.ATTEMPT_FIRST_CHUNK, backend=name),
            gap_p99_s=window.quantile(0.99, catalog.ATTEMPT_PER_CHUNK, backend=name),
            attempts=attempts.get(name, 0.0),
            failed=failed.get(name, 0.0),
        )
        for name in sorted({*inflight, *up, *pressure} - {""})
    )


def _faces(window: Window) -> FaceFigures | None:
    known = (catalog.AVATAR_SESSIONS, catalog.INFERENCE_STREAMS)
    if not any(now.has(metric) for now, _ in window.pairs for metric in known):
        return None
    return FaceFigures(
        sessions=int(_one(window.level(catalog.AVATAR_SESSIONS))),
        viewers=int(_one(window.level(catalog.AVATAR_VIEWERS))),
        mouths_waiting=int(_one(window.level(catalog.INFERENCE_QUEUED))),
        mouth_p95_s=window.quantile(0.95, catalog.INFERENCE_REQUEST),
    )


def _gpus(now: Scrape) -> list[GpuFigures]:
    def of(gpu: str) -> GpuFigures:
        what = now.sum(catalog.GPU_MEMORY.name, "what", gpu=gpu)
        names = ("total", "used", "reserved", "free", "unleased")
        return GpuFigures(host=now.url, gpu=gpu, **{f"{name}_bytes": what.get(name, 0.0) for name in names})

    return [of(gpu) for gpu in sorted(now.sum(catalog.GPU_MEMORY.name, "gpu"))]
