"""Control's figures, read at a scrape: the counters themselves are plain numbers in `Control`."""

from __future__ import annotations

from collections.abc import Iterable

from control.service import Control
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.ops.nats_link import NatsLink
from streamkit.wire.state import LEVELS

__all__ = ["watch", "watch_link"]

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

    def signals() -> Rows:
        arbiters = control.arbiters
        yield ("taken",), float(arbiters.taken)
        for why, count in arbiters.ignored.items():
            yield (why,), float(count)

    def pressure() -> Rows:
        for backend in control.registry.backends:
            word = control.arbiters.word(backend.name)
            yield (backend.name,), -1.0 if word is None else float(LEVELS.index(word.pressure))

    def ages() -> Rows:
        return [((state.host,), state.header.age_ms / 1000) for state in control.arbiters.states()]

    metrics.watch(catalog.CONTROL_ANSWERS, answers)
    metrics.watch(catalog.CONTROL_PROBES, probes)
    metrics.watch(catalog.CONTROL_SYNCS, lambda: [((), float(counters.syncs))])
    metrics.watch(catalog.CONTROL_REFUSED, lambda: [((), float(counters.refused))])
    if (keyring := control.keyring) is not None:
        metrics.watch(catalog.CONTROL_STORE_ERRORS, lambda: [((), float(keyring.errors))])
    metrics.watch(catalog.CONTROL_EDGES, lambda: [((), float(control.registry.live_edges))])
    metrics.watch(catalog.CONTROL_WAITING, lambda: [((), float(control.board.waiting))])
    metrics.watch(catalog.BACKEND_UP, backends)
    metrics.watch(catalog.CONTROL_SIGNALS, signals)
    metrics.watch(catalog.BACKEND_PRESSURE, pressure)
    metrics.watch(catalog.ARBITER_AGE, ages)


def watch_link(metrics: Metrics, link: NatsLink) -> None:
    """Show whether the broker is there."""
    metrics.watch(catalog.NATS_CONNECTED, lambda: [((), float(link.connected))])
