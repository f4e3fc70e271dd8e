"""What `headrace up` shows of each service: one row of its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launch.detect import Finding
from launch.layout import ARBITER, COMPOSITOR, CONTROL, EDGE, INFERENCE, NATS, OBSERVE, Layout
from launch.screen import Row

__all__ = ["rows"]


def rows(layout: Layout, findings: Sequence[Finding]) -> Iterator[Row]:
    """Yield a row for each service of ours, then one for each engine.

    Args:
        layout: what runs, and where.
        findings: what was found on the machine, by the names that `layout` gave to it.
    """
    ready = {name: child.ready for name, child in layout.children.items()}
    yield Row(EDGE, ready[EDGE]["url"], "real", "gateway, web page")
    yield Row(CONTROL, ready[CONTROL]["url"], "real", "routing, health")
    if ARBITER in ready:
        yield Row(ARBITER, ready[ARBITER]["url"], "real", _gpus(ready[ARBITER]))
    if NATS in ready:
        kept = ", events" if OBSERVE in ready else ""
        yield Row(NATS, ready[NATS]["url"], "real", f"word of arbiters{kept}")
    if OBSERVE in ready:
        yield Row(OBSERVE, ready[OBSERVE]["url"], "real", "events, usage")
    if INFERENCE in ready:
        yield Row(INFERENCE, ready[INFERENCE]["url"], "real", _mouths(ready[INFERENCE]))
    if COMPOSITOR in ready:
        yield Row(COMPOSITOR, ready[COMPOSITOR]["url"], "real", _faces(ready[COMPOSITOR]))
    products = {finding.backend.name: finding for finding in findings if finding.backend}
    for backend in layout.backends():
        finding = products.get(backend.name)
        detail = ", ".join((finding.product, *finding.models)) if finding else backend.engine
        if backend.name == layout.simulator and layout.plan.simulator is not None:
            detail = ", ".join(layout.plan.simulator.models)
        kind = "simulated" if backend.effective_capabilities().simulated else "real"
        yield Row(backend.name, backend.url, kind, detail)


def _mouths(ready: Mapping[str, Any]) -> str:
    models = ready["models"]
    named = ", ".join(models) if len(models) <= 3 else f"{len(models)} models"
    return f"{named} ({'CPU' if ready['device'] == 'cpu' else 'GPU'})"


def _faces(ready: Mapping[str, Any]) -> str:
    avatars = ready["avatars"]
    named = ", ".join(avatars) if len(avatars) <= 3 else f"{len(avatars)} avatars"
    return f"{named} ({', '.join(ready['codecs'])})"


def _gpus(ready: Mapping[str, Any]) -> str:
    count = int(ready["gpus"])
    static = " (static)" if ready["inventory"] == "static" else ""
    return f"leases, {count} GPU{'' if count == 1 else 's'}{static}"
