"""The series that one stream counts into, looked up once for each model and not once for each token."""

from __future__ import annotations

from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics

__all__ = ["StreamMeters", "StreamMetersCache"]


class StreamMeters:
    """Series of one (operation, model)."""

    __slots__ = ("_metrics", "events", "gap", "heartbeats", "labels", "longest_gap", "pauses", "per_token", "ttft")

    def __init__(self, metrics: Metrics, operation: str, model: str) -> None:
        self._metrics = metrics
        self.labels = (operation, model)
        self.ttft = metrics.histogram(catalog.STREAM_TTFT, operation, model)
        self.per_token = metrics.histogram(catalog.STREAM_PER_TOKEN, operation, model)
        self.gap = metrics.histogram(catalog.STREAM_GAP, model)
        self.longest_gap = metrics.histogram(catalog.STREAM_LONGEST_GAP, model)
        self.events = metrics.counter(catalog.STREAM_EVENTS, model)
        self.heartbeats = metrics.counter(catalog.HEARTBEATS)
        self.pauses = metrics.counter(catalog.PAUSES)

    def ended(self, outcome: str, code: str, duration_s: float) -> None:
        """Count the end of a request."""
        self._metrics.counter(catalog.STREAMS, *self.labels, outcome, code).value += 1
        self._metrics.histogram(catalog.STREAM_DURATION, *self.labels, outcome).observe(duration_s)


class StreamMetersCache:
    """Makes `StreamMeters`, each once. Callers pass only models that a backend serves: labels stay bounded."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[tuple[str, str], StreamMeters] = {}

    def of(self, operation: str, model: str) -> StreamMeters:
        """Return the series of one operation and model."""
        made = self._made.get((operation, model))
        if made is None:
            made = self._made[operation, model] = StreamMeters(self._metrics, operation, model)
        return made
