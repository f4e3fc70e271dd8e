"""A breaker under attempts that end in any order, long after it has changed its mind."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamkit.flow.breaker import Breaker, BreakerPolicy, BreakerState, Ticket
from streamkit.flow.clock import ManualClock

CLOSED, OPEN, HALF_OPEN = BreakerState
ALLOWED = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
POLICY = BreakerPolicy(failures=3, minimum=6, open_ms=1_000, open_cap_ms=4_000, probe_ms=60_000)


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.changes: list[BreakerState] = [CLOSED]
        self.breaker = Breaker(POLICY, clock=self.clock, on_change=self.changes.append)
        self.running: list[tuple[Ticket, int]] = []

    @property
    def of_now(self) -> int:
        """Attempts under way that were let in since the last change."""
        return sum(born == len(self.changes) for _, born in self.running)

    @rule()
    def attempt(self) -> None:
        admits, state = self.breaker.admits, self.breaker.state
        probes = self.of_now
        ticket = self.breaker.permit()
        assert (ticket is not None) == admits
        if state is CLOSED:
            assert ticket is not None
        if state is OPEN:
            assert ticket is None
        if state is HALF_OPEN:
            assert (ticket is not None) == (probes == 0)
        if ticket is not None:
            self.running.append((ticket, len(self.changes)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["success", "failure", "abandoned"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        ticket, born = data.draw(st.sampled_from(self.running))
        self.running.remove((ticket, born))
        before, changes = self.breaker.state, len(self.changes)
        getattr(ticket, how)()
        if born != changes or how == "abandoned":
            assert len(self.changes) == changes
        elif before is HALF_OPEN:
            assert self.breaker.state is (CLOSED if how == "success" else OPEN)
        ticket.failure()

    @rule(milliseconds=st.integers(0, 5_000))
    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)

    @invariant()
    def changes_follow_the_diagram(self) -> None:
        assert self.breaker.state is self.changes[-1]
        assert all(pair in ALLOWED for pair in zip(self.changes, self.changes[1:], strict=False))

    @invariant()
    def an_open_breaker_says_when(self) -> None:
        after = self.breaker.retry_after_ms
        assert (after > 0) == (self.breaker.state is OPEN)
        assert after <= POLICY.open_cap_ms


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
