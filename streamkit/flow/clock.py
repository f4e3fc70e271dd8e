"""The one way to read time: a callable that gives monotonic seconds, so that a test can hand in its own."""

from __future__ import annotations

import time
from typing import Final, Protocol

__all__ = ["MONOTONIC", "Clock", "ManualClock"]


class Clock(Protocol):
    """Gives monotonic seconds; only differences between two readings mean anything."""

    def __call__(self) -> float:
        """Return the time in seconds."""
        ...


#: The machine's monotonic clock.
MONOTONIC: Final[Clock] = time.monotonic


class ManualClock:
    """A clock that stands still until it is told to move.

    Args:
        now_s: the first reading, in seconds.
    """

    __slots__ = ("_now_s",)

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`.

        Raises:
            ValueError: `seconds` is negative; a monotonic clock never goes back.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self._now_s += seconds
