"""What payers may use in a day and in a month: judged by the last totals that control passed on, by the edge itself.

A total is what somebody counted a moment ago (docs/operations/usage.md): a payer may go over its budget by what it
uses within that moment and what is under way. While nobody counts, the last totals stand; a new day starts at
nothing for all that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from edge.endpoints.access import Caller
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeyRecord
from streamkit.wire.state import Snapshot
from streamkit.wire.telemetry import Spent, SpentState, day_of, month_of

__all__ = ["Budgets"]

_NOTHING: Final = Spent(payer="", day=0, month=0)


class Budgets:
    """Budgets of keys and tenants, and what of them is used.

    Args:
        now: the wall clock, in seconds since 1970; days and months are UTC's.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._keys: dict[str, KeyRecord] = {}
        self._state: SpentState | None = None
        self._spent: dict[str, Spent] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Put a newer snapshot into force; one without totals changes no totals."""
        self._keys = {key.id: key for key in snapshot.keys.keys if key.tokens_per_day or key.tokens_per_month}
        if snapshot.spent is not None:
            self._state = snapshot.spent
            self._spent = {spent.payer: spent for spent in snapshot.spent.spent}

    def check(self, caller: Caller) -> None:
        """Return if neither the caller's key nor its tenant has used up a budget.

        Raises:
            HeadraceError: INSUFFICIENT_QUOTA, with the time when the budget begins anew.
        """
        tenant = caller.tenant
        if tenant.tokens_per_day or tenant.tokens_per_month:
            self._judge("tenant", tenant.name, tenant.tokens_per_day, tenant.tokens_per_month)
        if self._keys and (key := self._keys.get(caller.key_id.partition("/")[0])) is not None:
            self._judge("key", key.id, key.tokens_per_day, key.tokens_per_month)

    def _judge(self, kind: str, name: str, per_day: int, per_month: int) -> None:
        state = self._state
        if state is None:
            return
        now = datetime.fromtimestamp(self._now(), UTC)
        spent = self._spent.get(f"{kind}:{name}", _NOTHING)
        used_today = spent.day if state.day == day_of(now) else 0
        used_this_month = spent.month if state.month == month_of(now) else 0
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if per_month and used_this_month >= per_month:
            following = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
            raise _used_up(kind, f"{per_month} tokens per month", used_this_month, now, following)
        if per_day and used_today >= per_day:
            raise _used_up(kind, f"{per_day} tokens per day", used_today, now, midnight + timedelta(days=1))


def _used_up(kind: str, budget: str, used: int, now: datetime, resets: datetime) -> HeadraceError:
    left_s = int((resets - now).total_seconds()) + 1
    moment = resets.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"This {kind} has used {used} tokens of its budget of {budget}. The budget begins anew at {moment}."
    headers = ((b"retry-after", b"%d" % left_s), (b"x-headrace-budget-reset", moment.encode()))
    return HeadraceError(Code.INSUFFICIENT_QUOTA, text, headers=headers)
