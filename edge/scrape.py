"""What is read of an edge at a scrape, so that no token pays for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge.endpoints.parts import Parts
from streamkit.flow.budget import Budget
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code

__all__ = ["watch"]

#: Codes that promises are about (dashboards/slos.toml).
_JUDGED: Final = (
    *(Code.SATURATED, Code.EVICTED, Code.OUT_OF_MEMORY),
    *(Code.NO_BACKEND, Code.NO_ROUTE, Code.INTERNAL),
)
_CAUSES: Final = ("client", "silent", "slow_reader", "expired", "stopped")


def watch(metrics: Metrics, parts: Parts, memory: Budget) -> None:
    """Register the gauges of an edge."""
    # A counter that begins with its first event has no rate of it.
    for code in _JUDGED:
        metrics.counter(catalog.REFUSED, code.value)
    for phase in ("first_event", "flowing"):
        for cause in _CAUSES:
            metrics.counter(catalog.DISCONNECTS, phase, cause)

    def open_streams() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((), float(parts.streams.count))]

    def open_sockets() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((), float(len(parts.sockets.open)))]

    def paused() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((), float(parts.streams.paused))]

    def channels() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((), float(parts.streams.unsent_bytes))]

    def buffered() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(used)) for name, used in memory.accounts.items()]

    def held() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), 1.0) for name in sorted(parts.holds.held)]

    def control_age() -> Iterable[tuple[tuple[str, ...], float]]:
        age_ms = parts.state.age_ms
        return [] if age_ms is None else [((), age_ms / 1000)]

    metrics.watch(catalog.STREAMS_OPEN, open_streams)
    metrics.watch(catalog.SOCKETS_OPEN, open_sockets)
    metrics.watch(catalog.STREAMS_PAUSED, paused)
    metrics.watch(catalog.CHANNEL, channels)
    metrics.watch(catalog.BUFFERED, buffered)
    metrics.watch(catalog.CONTROL_AGE, control_age)
    metrics.watch(catalog.BACKEND_HELD, held)
