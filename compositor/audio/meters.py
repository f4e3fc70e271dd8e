"""The figures of sound: counted as they happen."""

from __future__ import annotations

from typing import Literal

from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics

__all__ = ["Meters", "Outcome"]

#: How an utterance ended: read to its end, failed, or closed before.
Outcome = Literal["finished", "failed", "closed"]
_OUTCOMES: tuple[Outcome, ...] = ("finished", "failed", "closed")


class Meters:
    """What is counted.

    Args:
        metrics: where to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._ticks = metrics.counter(catalog.SPEECH_TICKS)
        self._batches = metrics.histogram(catalog.SPEECH_BATCH)
        self._hop = metrics.histogram(catalog.SPEECH_ENCODER)
        self._open = metrics.counter(catalog.SPEECH_OPEN)
        self._ended = {outcome: metrics.counter(catalog.SPEECH_ENDED, outcome) for outcome in _OUTCOMES}
        self.pending_bytes = metrics.counter(catalog.SPEECH_PENDING)

    def opened(self) -> None:
        """Count an utterance that begins."""
        self._open.value += 1

    def ended(self, outcome: Outcome) -> None:
        """Count one that is over."""
        self._open.value -= 1
        self._ended[outcome].value += 1

    def made(self, ticks: int) -> None:
        """Count ticks."""
        self._ticks.value += ticks

    def encoded(self, windows: int, seconds: float) -> None:
        """Count a request to the encoder."""
        self._batches.observe(windows)
        self._hop.observe(seconds)

    def first_audio(self, engine: str, seconds: float) -> None:
        """Count the wait from `say` to a voice's first samples."""
        self._metrics.histogram(catalog.SPEECH_FIRST_AUDIO, engine).observe(seconds)

    def restarted(self, engine: str) -> None:
        """Count a voice that was started again."""
        self._metrics.counter(catalog.SPEECH_RESTARTS, engine).value += 1
