"""Tokens of each payer, this day and this month, added up as they come."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamkit.wire.telemetry import Spent

__all__ = ["Totals"]


@dataclass(slots=True)
class Totals:
    """Totals of one day.

    Args:
        today: its first hour, in hours since 1970.
        first: the first hour of its month.
    """

    today: int
    first: int
    _day: dict[str, int] = field(default_factory=dict)
    _month: dict[str, int] = field(default_factory=dict)

    def add(self, hour: int, tenant: str, key: str, tokens: int) -> None:
        """Add what one payer used in an hour; a key may have a user's name behind a slash, and is charged for it."""
        if hour < self.first:
            return
        for payer in (f"tenant:{tenant}", f"key:{key.partition('/')[0]}"):
            if payer.endswith(":"):
                continue
            self._month[payer] = self._month.get(payer, 0) + tokens
            if hour >= self.today:
                self._day[payer] = self._day.get(payer, 0) + tokens

    def spent(self) -> list[Spent]:
        """Return them, in the order of payers."""
        return [
            Spent(payer=payer, day=self._day.get(payer, 0), month=month)
            for payer, month in sorted(self._month.items())
        ]
