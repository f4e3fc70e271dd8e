"""How many retries a worker may add to its load: a share of its recent requests, not a count per request.

The rule is tower's `retry::budget`: each request deposits a fraction of a retry, each retry withdraws a whole one,
both expire with the window, and a small floor lets a quiet worker retry at all. When a backend fails for everybody,
retries stay a fifth of the load instead of doubling it.
"""

from __future__ import annotations

from typing import Final

from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.flow.window import Window

__all__ = ["RetryBudget"]

#: Far below one retry: five requests at a ratio of 0.2 earn a whole one in floating point too.
_ROUNDING: Final = 1e-6


class RetryBudget:
    """The retries that one worker may make now. The defaults are design §3's.

    Args:
        ratio: retries earned by each request.
        floor_per_s: retries per second that need no requests.
        window_ms: how long requests and retries are remembered, in milliseconds.
        clock: monotonic seconds.
    """

    __slots__ = ("_floor", "_ratio", "_requests", "_withdrawn", "refused")

    def __init__(
        self, *, ratio: float = 0.2, floor_per_s: float = 5.0, window_ms: int = 10_000, clock: Clock = MONOTONIC
    ) -> None:
        #: Withdrawals that were refused since the start.
        self.refused = 0
        self._ratio = ratio
        self._floor = floor_per_s * window_ms / 1000
        self._requests = Window(window_ms, clock=clock)
        self._withdrawn = Window(window_ms, clock=clock)

    @property
    def available(self) -> int:
        """Retries that could be made now."""
        earned = self._floor + self._ratio * self._requests.total() + _ROUNDING
        return max(0, int(earned) - self._withdrawn.total())

    def deposit(self) -> None:
        """Count one request (not one retry)."""
        self._requests.add()

    def withdraw(self) -> bool:
        """Take one retry, or return False: then the first failure is the answer."""
        if self.available < 1:
            self.refused += 1
            return False
        self._withdrawn.add()
        return True
