"""A count over the last seconds, in a ring of slots: no memory per event."""

from __future__ import annotations

from streamkit.flow.clock import MONOTONIC, Clock

__all__ = ["Window"]


class Window:
    """Counts what was added during the last `span_ms`, exact to one slot.

    Args:
        span_ms: how far back it counts, in milliseconds.
        slots: pieces in which old counts fall out.
        clock: monotonic seconds.

    Raises:
        ValueError: `span_ms` or `slots` is not positive.
    """

    __slots__ = ("_clock", "_counts", "_newest", "_slot_s", "_total")

    def __init__(self, span_ms: int, *, slots: int = 10, clock: Clock = MONOTONIC) -> None:
        if span_ms <= 0 or slots <= 0:
            raise ValueError(f"a window needs a positive span and slots, not span_ms={span_ms} slots={slots}")
        self._clock = clock
        self._slot_s = span_ms / 1000 / slots
        self._counts = [0] * slots
        self._newest = int(clock() / self._slot_s)
        self._total = 0

    def add(self, count: int = 1) -> None:
        """Count `count` events as of now."""
        self._turn()
        self._counts[self._newest % len(self._counts)] += count
        self._total += count

    def total(self) -> int:
        """Return the events of the last `span_ms`."""
        self._turn()
        return self._total

    def clear(self) -> None:
        """Forget all events."""
        self._counts = [0] * len(self._counts)
        self._total = 0

    def _turn(self) -> None:
        """Empty the slots whose time has come round again."""
        now = int(self._clock() / self._slot_s)
        size = len(self._counts)
        for slot in range(max(self._newest + 1, now - size + 1), now + 1):
            self._total -= self._counts[slot % size]
            self._counts[slot % size] = 0
        self._newest = max(self._newest, now)
