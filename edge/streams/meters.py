"""The series that one stream counts into, looked up once for each model and not once for each token."""

from __future__ import annotations

from typing import Final

from streamkit.ops import catalog
from streamkit.ops.metrics import MAX_SERIES, OTHER, Metrics

__all__ = ["PROVIDER", "StreamMeters", "StreamMetersCache"]

#: `gen_ai.provider.name` of what an edge serves; of what it pulls it is the engine's kind.
PROVIDER: Final = "headrace"


class StreamMeters:
    """Series of one (operation, model)."""

    __slots__ = (
        "_metrics", "added", "events", "heartbeats", "jitter", "longest_gap", "model", "operation", "paused",
        "pauses", "per_token", "ttft",
    )  # fmt: skip

    def __init__(self, metrics: Metrics, operation: str, model: str) -> None:
        self._metrics = metrics
        self.operation = operation
        self.model = model
        self.ttft = metrics.histogram(catalog.STREAM_TTFT, operation, PROVIDER, model)
        self.per_token = metrics.histogram(catalog.STREAM_PER_TOKEN, operation, PROVIDER, model)
        self.longest_gap = metrics.histogram(catalog.STREAM_LONGEST_GAP, model)
        self.jitter = metrics.histogram(catalog.STREAM_JITTER, model)
        self.added = metrics.histogram(catalog.ADDED_DELAY, operation)
        self.events = metrics.counter(catalog.STREAM_EVENTS, model)
        self.heartbeats = metrics.counter(catalog.HEARTBEATS)
        self.pauses = metrics.counter(catalog.PAUSES)
        self.paused = metrics.histogram(catalog.PAUSED)

    def ended(self, outcome: str, code: str, duration_s: float) -> None:
        """Count the end of a request."""
        self._metrics.counter(catalog.STREAMS, self.operation, self.model, outcome, code).value += 1
        kind = "" if outcome == "finished" else code or outcome
        series = self._metrics.histogram(catalog.STREAM_DURATION, self.operation, PROVIDER, self.model, kind)
        series.observe(duration_s)


class StreamMetersCache:
    """Makes `StreamMeters`, each once. Callers pass only models that a backend serves: labels stay bounded."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[tuple[str, str], StreamMeters] = {}

    def of(self, operation: str, model: str) -> StreamMeters:
        """Return the series of one operation and model."""
        made = self._made.get((operation, model))
        if made is None and len(self._made) >= MAX_SERIES:  # a backend that renames its models for ever
            model = OTHER
            made = self._made.get((operation, model))
        if made is None:
            made = self._made[operation, model] = StreamMeters(self._metrics, operation, model)
        return made
