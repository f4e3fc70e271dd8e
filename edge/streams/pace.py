"""The pace of one stream: a few numbers that each read changes, and what is made of them once it is over.

What an engine's read brings is written to the client in the same call, so a gap between two reads is a gap between
two writes: one count serves both metrics, and the client's is the engines' summed up at a scrape.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

from edge.streams.meters import StreamMeters
from streamkit.ops.metric import GAP
from streamkit.ops.metrics import Histogram

__all__ = ["Pace"]

#: Counted into while no attempt is known; nobody reads it.
_NOBODYS: Final = [0] * (len(GAP) + 1)


class Pace:
    """Gaps between the reads that brought events; the part of a `Stream` that does no more than reckon.

    `Stream.feed` counts in place, because a call would cost as much as all of it. Times are `monotonic()` seconds.
    """

    __slots__ = (
        "_chunks",
        "_chunks_from_s",
        "_gap_counts",
        "_gap_squares",
        "_gaps",
        "first_s",
        "last_s",
        "longest_s",
    )

    def __init__(self) -> None:
        #: Of the attempt that serves now, with the buckets `GAP`.
        self._gap_counts = _NOBODYS
        self._chunks: Histogram | None = None
        self._chunks_from_s = 0.0
        self._gaps = 0
        self._gap_squares = 0.0
        #: Of the first read; 0 = there was none.
        self.first_s = 0.0
        self.last_s = 0.0
        self.longest_s = 0.0

    def begin(self, now: float) -> None:
        """Note the first read."""
        self.first_s = self.last_s = self._chunks_from_s = now

    def pull_into(self, chunks: Histogram | None) -> None:
        """Count what comes from now on as chunks of another attempt, with the buckets `GAP`; None = of nobody's."""
        if self._chunks is not None:
            self._chunks.total += self.last_s - self._chunks_from_s
        self._chunks = chunks
        self._chunks_from_s = self.last_s
        self._gap_counts = _NOBODYS if chunks is None else chunks.counts

    @property
    def jitter_s(self) -> float | None:
        """Standard deviation of the gaps in seconds; None = there were less than two."""
        if self._gaps < 2:
            return None
        mean = (self.last_s - self.first_s) / self._gaps
        return sqrt(max(0.0, self._gap_squares / self._gaps - mean * mean))

    def settle(self, meters: StreamMeters) -> None:
        """Count the stream as a whole, once."""
        self.pull_into(None)
        if self.first_s:
            meters.longest_gap.observe(self.longest_s)
            jitter_s = self.jitter_s
            if jitter_s is not None:
                meters.jitter.observe(jitter_s)
