"""A second attempt beside a first one that is late: the first event wins, the loser is cancelled and counted.

Both hold a permit and a breaker's ticket for as long as their upstreams last (law 3). A hedge costs work that nobody
will read, so it has a budget of its own, a twentieth of the requests, and is left while requests wait for permits.
"""

from __future__ import annotations

from edge.relay.leg import Leg
from edge.relay.waiting import WaitingRoom
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics

__all__ = ["Hedging", "Race"]


class Hedging:
    """Whether a hedge may be made now, for all requests of an edge.

    Args:
        room: no hedges while requests wait there.
        budget: of hedges.
        metrics: where they are counted.
    """

    def __init__(self, room: WaitingRoom, budget: RetryBudget, metrics: Metrics) -> None:
        self._room = room
        self._metrics = metrics
        self.budget = budget

    def may(self) -> bool:
        """Take one out of the budget; False = now is not the time."""
        if self._room.busy:
            self.count("busy")
        elif not self.budget.withdraw():
            self.count("budget")
        else:
            return True
        return False

    def count(self, outcome: str) -> None:
        """Count a hedge: won, lost, failed; or one that was not made: busy, budget, room."""
        self._metrics.counter(catalog.HEDGES, outcome).value += 1


class Race:
    """The one or two legs of a request, until one of them has the first event."""

    __slots__ = ("_hedging", "leg", "rival")

    def __init__(self, hedging: Hedging) -> None:
        self._hedging = hedging
        #: The attempt that counts.
        self.leg: Leg | None = None
        #: The hedge beside it.
        self.rival: Leg | None = None

    def won(self, leg: Leg) -> Leg | None:
        """Note whose first event it is; return the one that lost, if there were two."""
        rival, self.rival = self.rival, None
        if rival is None:
            return None
        self._hedging.count("won" if leg is rival else "lost")
        loser = self.leg if leg is rival else rival
        self.leg = leg
        return loser

    def out(self, leg: Leg) -> bool:
        """Note that a leg failed before its first event; return whether the other one goes on."""
        if leg is self.rival:
            self._hedging.count("failed")
        elif leg is self.leg:
            self.leg = self.rival
        self.rival = None
        return self.leg is not None

    def __contains__(self, leg: Leg) -> bool:
        return leg is self.leg or leg is self.rival

    def over(self, leg: Leg) -> None:
        """Forget a leg whose upstream is over."""
        if leg is self.leg:
            self.leg = None
        elif leg is self.rival:
            self.rival = None

    def legs(self) -> tuple[Leg, ...]:
        """Return those that run."""
        return tuple(leg for leg in (self.leg, self.rival) if leg is not None)
