"""What traces an edge's requests, put together from its settings."""

from __future__ import annotations

from edge.settings import EdgeSettings
from streamkit.ops.metrics import Metrics
from streamkit.ops.traces import Tracer

__all__ = ["tracer_of"]


def tracer_of(settings: EdgeSettings, instance: str, metrics: Metrics) -> Tracer | None:
    """Return what samples requests and sends their spans; None = nobody asked for it.

    Raises:
        SettingsError: the packages for it are not installed.
    """
    if not settings.traces_url:
        return None
    return Tracer(
        settings.traces_url,
        settings.traces_ratio,
        service="headrace-edge",
        instance=instance,
        metrics=metrics,
        key="edge.traces_url",
    )
