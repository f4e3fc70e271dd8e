"""What payers have used, as the tally tells it: its last word for those that have a budget. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from streamkit.wire.keys import KeySnapshot
from streamkit.wire.telemetry import Spent, SpentState

__all__ = ["Spending"]

_STEPS: Final = 100


class Spending:
    """The totals of all payers."""

    def __init__(self) -> None:
        self._day = self._month = 0
        self._spent: dict[str, Spent] = {}
        #: What edges were told last.
        self._told: dict[str, Spent] = {}

    def read(self, message: bytes) -> None:
        """Take a message in; it may tell of some payers only, and one of an earlier day tells nothing.

        Raises:
            msgspec.MsgspecError: it is none.
        """
        state = msgspec.json.decode(message, type=SpentState)
        if state.day < self._day:
            return
        if state.day != self._day:
            kept = self._spent.values() if state.month == self._month else ()
            self._spent = {one.payer: msgspec.structs.replace(one, day=0) for one in kept}
            self._day, self._month = state.day, state.month
        self._spent |= {one.payer: one for one in state.spent}

    def of(self, keys: KeySnapshot) -> SpentState | None:
        """Return the totals of payers with budgets; None = nobody has one, or nobody has told any totals.

        A total moves by a hundredth of its budget, or when that is used up: each move is news for every edge.
        """
        if not self._day:
            return None
        budgets = {f"tenant:{one.name}": (one.tokens_per_day, one.tokens_per_month) for one in keys.tenants}
        budgets |= {f"key:{one.id}": (one.tokens_per_day, one.tokens_per_month) for one in keys.keys}
        budgets = {payer: budget for payer, budget in budgets.items() if any(budget)}
        if not budgets:
            return None
        told = {}
        for payer in sorted(budgets.keys() & self._spent.keys()):
            now, before = self._spent[payer], self._told.get(payer)
            told[payer] = now if before is None or _moved(before, now, *budgets[payer]) else before
        self._told = told
        return SpentState(day=self._day, month=self._month, spent=tuple(told.values()))


def _moved(before: Spent, now: Spent, per_day: int, per_month: int) -> bool:
    """Say whether a total has moved far enough to be told."""
    for was, used, budget in ((before.day, now.day, per_day), (before.month, now.month, per_month)):
        if budget and (abs(used - was) * _STEPS >= budget or (used >= budget) != (was >= budget)):
            return True
    return False
