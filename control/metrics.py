"""Control's figures, read at a scrape: the counters themselves are plain numbers in `Control`."""

from __future__ import annotations

from collections.abc import Iterable

from control.service import Control
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics

__all__ = ["watch"]

Rows = Iterable[tuple[tuple[str, ...], float]]


def watch(metrics: Metrics, control: Control) -> None:
    """Show what `control` has done and knows."""
    counters = control.counters

    def answers() -> Rows:
        yield ("routed",), float(counters.routed)
        for code, count in counters.shed.items():
            yield (code,), float(count)

    def probes() -> Rows:
        yield ("ok",), float(counters.probes_ok)
        yield ("failed",), float(counters.probes_failed)
        yield ("error",), float(counters.probe_errors)

    def backends() -> Rows:
        return [((view.backend.name,), float(view.health == "up")) for view in control.board.view.backends]

    metrics.watch(catalog.CONTROL_ANSWERS, answers)
    metrics.watch(catalog.CONTROL_PROBES, probes)
    metrics.watch(catalog.CONTROL_SYNCS, lambda: [((), float(counters.syncs))])
    metrics.watch(catalog.CONTROL_REFUSED, lambda: [((), float(counters.refused))])
    metrics.watch(catalog.CONTROL_EDGES, lambda: [((), float(control.registry.live_edges))])
    metrics.watch(catalog.CONTROL_WAITING, lambda: [((), float(control.board.waiting))])
    metrics.watch(catalog.BACKEND_UP, backends)
