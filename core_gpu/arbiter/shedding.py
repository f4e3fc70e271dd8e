"""OK → BUSY → SHEDDING → DOWN: one backend's pressure from noisy looks at it. Pure; time is handed in.

A level is reached when every look of a while asks for it or more, and left when every look of a longer while is below
a lower mark. So an overload and the recovery from it make one way up and one way down, whatever the noise.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from streamkit.wire.state import LEVELS, Pressure

__all__ = ["LADDER", "Look", "ShedRule", "Shedder"]

OK, BUSY, SHEDDING, DOWN = range(4)
#: How a level may follow another; the diagram in docs/operations/shedding.md is drawn from it.
LADDER: Final[dict[Pressure, tuple[Pressure, ...]]] = {
    "ok": ("busy", "shedding", "down"),
    "busy": ("shedding", "down", "ok"),
    "shedding": ("down", "busy", "ok"),
    "down": ("shedding", "busy", "ok"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a backend found.

    Args:
        alive: it answered as a healthy engine does.
        load: requests in it over those that it serves at a time; None = it does not say.
        over_budget: the watchdog has caught it holding more memory than it may.
    """

    alive: bool
    load: float | None = None
    over_budget: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedRule:
    """Marks and times. Loads are shares of what the backend serves at a time; times are seconds."""

    busy_at: float = 1.0
    shed_at: float = 2.0
    #: A level is left below this share of its mark.
    leave_share: float = 0.75
    #: Every look of so long must ask for more.
    rise_s: float = 1.0
    #: Every look of so long must be below the lower mark; also the least time in any level that is left downwards.
    fall_s: float = 5.0
    #: No two changes are closer; only death is told at once.
    residency_s: float = 5.0


@dataclass(slots=True)
class Shedder:
    """One backend's level.

    Args:
        rule: marks and times.
        now: monotonic seconds.
    """

    rule: ShedRule
    now: float
    level: int = OK
    #: Changes so far, by the level that was entered.
    entered: list[int] = field(default_factory=lambda: [0] * len(LEVELS))
    _since_s: float = field(init=False)
    #: Looks of the last while: time, the level that it asks for, the level that it would hold.
    _looks: deque[tuple[float, int, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        # A backend that was never looked at may change as soon as the looks agree.
        self._since_s = self.now - self.rule.residency_s

    @property
    def pressure(self) -> Pressure:
        """The level's name."""
        return LEVELS[self.level]

    def see(self, look: Look, now: float) -> bool:
        """Take one look in; True = the level has changed."""
        rule = self.rule
        asked, held = self._asked(look, 1.0), self._asked(look, rule.leave_share)
        self._looks.append((now, asked, held))
        # One look from before the longest while stays: it is what was known at its begin.
        begin = now - max(rule.rise_s, rule.fall_s)
        while len(self._looks) > 1 and self._looks[1][0] <= begin:
            self._looks.popleft()
        up = self._all(now, rule.rise_s, 1)
        down = self._all(now, rule.fall_s, 2)
        if up is not None and up > self.level and (up == DOWN or now - self._since_s >= rule.residency_s):
            return self._enter(up, now)
        if down is not None and down < self.level and now - self._since_s >= rule.residency_s:
            return self._enter(down, now)
        return False

    def _asked(self, look: Look, share: float) -> int:
        """Return the level that a look asks for, with its marks at `share` of their height."""
        rule = self.rule
        if not look.alive:
            return DOWN
        if look.over_budget:
            return SHEDDING
        if look.load is None:
            return OK
        if look.load >= rule.shed_at * share:
            return SHEDDING
        return BUSY if look.load >= rule.busy_at * share else OK

    def _all(self, now: float, while_s: float, column: int) -> int | None:
        """Return the least level asked for (1), or the most held (2), in the last while; None = not known so long."""
        begin = now - while_s
        before = sum(at <= begin for at, _, _ in self._looks)
        if not before:
            return None
        seen = list(self._looks)[before - 1 :]
        return min(asked for _, asked, _ in seen) if column == 1 else max(held for _, _, held in seen)

    def _enter(self, level: int, now: float) -> bool:
        self.level = level
        self._since_s = now
        self.entered[level] += 1
        return True
