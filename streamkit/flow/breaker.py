"""A circuit breaker that is settled at the END of an attempt (law 3).

    CLOSED ── failures in a row, or a failure ratio ──▶ OPEN ── open_ms ──▶ HALF_OPEN ── probe succeeded ──▶ CLOSED
                                                          ▲                     │
                                                          └── probe failed ─────┘   (open_ms doubles, up to a cap)

A stream that got its 200 and broke in the middle is a failure; one that the client left says nothing. Attempts may
last minutes, so each carries the ticket that it was let in with: a long stream that began before the breaker opened
neither closes nor re-opens it when it ends. (A draining vLLM finishes its old streams well and refuses new ones.)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.flow.window import Window

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "Ticket"]


class BreakerState(enum.Enum):
    """What the breaker does with new attempts."""

    CLOSED = "closed"  #: lets all of them in
    OPEN = "open"  #: lets none in
    HALF_OPEN = "half_open"  #: lets one in at a time, as a probe


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Raises:
        ValueError: a number is out of its range.
    """

    failures: int = 5  #: failures in a row that open it
    ratio: float = 0.5  #: share of failures in the window that opens it
    minimum: int = 20  #: settled attempts in the window before the ratio counts
    window_ms: int = 10_000  #: what the ratio looks back on
    open_ms: int = 1_000  #: how long it stays open at first
    open_cap_ms: int = 30_000  #: how long it stays open at most, after doubling with each failed probe
    probe_ms: int = 5_000  #: a probe that runs this long no longer keeps the next one out (streams last minutes)

    def __post_init__(self) -> None:
        if self.failures < 1 or self.minimum < 1 or self.window_ms < 1:
            raise ValueError(f"failures, minimum and window_ms must be at least 1: {self}")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1: {self}")
        if not 0 < self.open_ms <= self.open_cap_ms:
            raise ValueError(f"open_ms must be above 0 and at most open_cap_ms: {self}")
        if self.probe_ms < 1:
            raise ValueError(f"probe_ms must be at least 1: {self}")


class Breaker:
    """Decides whether one backend gets new attempts.

    Args:
        policy: when it opens, and for how long.
        clock: monotonic seconds.
        on_change: called with the new state after each change.
    """

    __slots__ = (
        "_changed_at",
        "_clock",
        "_epoch",
        "_failures",
        "_in_a_row",
        "_on_change",
        "_open_s",
        "_policy",
        "_probe_since",
        "_settled",
        "_state",
    )

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        clock: Clock = MONOTONIC,
        on_change: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._clock = clock
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self._changed_at = clock()
        self._epoch = 0
        self._open_s = self._policy.open_ms / 1000
        self._in_a_row = 0
        self._probe_since: float | None = None
        self._settled = Window(self._policy.window_ms, clock=clock)
        self._failures = Window(self._policy.window_ms, clock=clock)

    @property
    def state(self) -> BreakerState:
        """What a new attempt would meet now."""
        if self._state is BreakerState.OPEN and self._clock() - self._changed_at >= self._open_s:
            self._change(BreakerState.HALF_OPEN)
        return self._state

    @property
    def age_ms(self) -> int:
        """Milliseconds since the state changed."""
        return int((self._clock() - self._changed_at) * 1000)

    @property
    def retry_after_ms(self) -> int:
        """Milliseconds until an open breaker lets a probe in; 0 when it is not open."""
        if self.state is not BreakerState.OPEN:
            return 0
        return max(1, round((self._changed_at + self._open_s - self._clock()) * 1000))

    @property
    def admits(self) -> bool:
        """Whether `permit` would let an attempt in now; takes nothing."""
        state = self.state
        if state is BreakerState.HALF_OPEN:
            since = self._probe_since
            return since is None or self._clock() - since >= self._policy.probe_ms / 1000
        return state is BreakerState.CLOSED

    def permit(self) -> Ticket | None:
        """Let an attempt in and return its ticket, to be settled at the attempt's end; None refuses it."""
        if not self.admits:
            return None
        if self._state is BreakerState.HALF_OPEN:
            self._probe_since = self._clock()
        return Ticket(self, self._epoch)

    def _settle(self, epoch: int, failed: bool | None) -> None:
        """Count one attempt's end; None when it says nothing about the backend."""
        if epoch != self._epoch:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._probe_since = None
            if failed is True:
                self._open_s = min(self._open_s * 2, self._policy.open_cap_ms / 1000)
                self._change(BreakerState.OPEN)
            elif failed is False:
                self._open_s = self._policy.open_ms / 1000
                self._change(BreakerState.CLOSED)
            return
        if failed is None:
            return
        self._settled.add()
        if not failed:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._failures.add()
        settled = self._settled.total()
        if self._in_a_row >= self._policy.failures or (
            settled >= self._policy.minimum and self._failures.total() >= self._policy.ratio * settled
        ):
            self._change(BreakerState.OPEN)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._changed_at = self._clock()
        self._epoch += 1
        self._probe_since = None
        self._in_a_row = 0
        self._settled.clear()
        self._failures.clear()
        if self._on_change is not None:
            self._on_change(state)


class Ticket:
    """One attempt's pass through a breaker. Of `success`, `failure` and `abandoned` the first call counts."""

    __slots__ = ("_breaker", "_epoch")

    def __init__(self, breaker: Breaker, epoch: int) -> None:
        self._breaker: Breaker | None = breaker
        self._epoch = epoch

    def success(self) -> None:
        """The attempt ended as it should."""
        self._settle(failed=False)

    def failure(self) -> None:
        """The backend failed: refused, broke, stalled, or ended early."""
        self._settle(failed=True)

    def abandoned(self) -> None:
        """The attempt ended for a reason of ours or of the client's, and says nothing about the backend."""
        self._settle(failed=None)

    def _settle(self, failed: bool | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker._settle(self._epoch, failed)  # noqa: SLF001 - a ticket is half of its breaker
