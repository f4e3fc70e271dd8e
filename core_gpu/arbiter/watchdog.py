"""Mode A's watchdog: an engine that holds more than its budget for five seconds is told so (design §6). Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Verdict", "Watchdog"]


class Verdict(enum.Enum):
    """What a measurement means."""

    WITHIN = enum.auto()
    #: Above the budget, not for long enough.
    ABOVE = enum.auto()
    #: Just now it is long enough: shed, and ask for room.
    CAUGHT = enum.auto()
    #: Still so.
    OVER = enum.auto()
    #: Room was asked for, and did not come in time: the last resort is due, once.
    STUBBORN = enum.auto()
    #: Just now it is within its budget again.
    BACK = enum.auto()

    @property
    def sheds(self) -> bool:
        """Whether new work should go elsewhere."""
        return self in (Verdict.CAUGHT, Verdict.OVER, Verdict.STUBBORN)


@dataclass(slots=True)
class Watchdog:
    """One budget. Memory is in MiB, times are seconds.

    Args:
        budget_mb: what it may hold.
        margin_mb: what is let pass above that.
        hold_s: for how long it must be above.
        room_s: how long making room may take.
    """

    budget_mb: int
    margin_mb: int
    hold_s: float
    room_s: float
    _above_s: float | None = None
    _caught_s: float | None = None
    _last_resort: bool = False

    def see(self, used_mb: int | None, now: float) -> Verdict:
        """Judge a measurement; None = nothing was measured, and then nothing changes."""
        if used_mb is None:
            return Verdict.WITHIN if self._caught_s is None else Verdict.OVER
        if self._caught_s is None:
            return self._free(used_mb, now)
        # Back means within the budget, not within the margin.
        if used_mb <= self.budget_mb:
            self._above_s = self._caught_s = None
            self._last_resort = False
            return Verdict.BACK
        if now - self._caught_s >= self.room_s and not self._last_resort:
            self._last_resort = True
            return Verdict.STUBBORN
        return Verdict.OVER

    def _free(self, used_mb: int, now: float) -> Verdict:
        if used_mb <= self.budget_mb + self.margin_mb:
            self._above_s = None
            return Verdict.WITHIN
        if self._above_s is None:
            self._above_s = now
        if now - self._above_s < self.hold_s:
            return Verdict.ABOVE
        self._caught_s = now
        return Verdict.CAUGHT
