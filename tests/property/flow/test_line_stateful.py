"""A line under any order of entering, leaving, expiring, releasing, resizing and declining."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamkit.flow.clock import ManualClock
from streamkit.flow.line import Line, Place
from streamkit.flow.permits import Permit, Permits
from streamkit.flow.queue import QueueFull

BOUND = 3


class _Someone:
    def __init__(self, machine: LineMachine, wants: frozenset[int], priority: int, declines: bool) -> None:
        self.machine, self.wants, self.priority, self.declines = machine, wants, priority, declines
        self.calls: list[str] = []
        self.place: Place | None = None

    def granted(self, of: Permits, permit: Permit) -> None:
        assert of in {self.machine.places[index] for index in self.wants}
        self._called("granted")
        if self.declines:
            permit.release()
        else:
            self.machine.held.append(permit)

    def displaced(self) -> None:
        self._called("displaced")

    def expired(self) -> None:
        self._called("expired")

    def _called(self, what: str) -> None:
        self.calls.append(what)
        assert len(self.calls) == 1, self.calls
        self.machine.people.remove(self)


class LineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.line = Line(bound=BOUND, ageing_ms=100, clock=self.clock)
        self.places = [Permits(1), Permits(2), Permits(0)]
        for place in self.places:
            self.line.watch(place)
        self.held: list[Permit] = []
        self.people: list[_Someone] = []

    @rule(wants=st.frozensets(st.integers(0, 2), min_size=1), priority=st.integers(1, 9), declines=st.booleans())
    def ask(self, wants: frozenset[int], priority: int, declines: bool) -> None:
        for index in wants:
            permit = self.places[index].try_acquire()
            if permit is not None:
                self.held.append(permit)
                return
        someone = _Someone(self, wants, priority, declines)
        alike = [one for one in self.people if one.wants == wants]
        self.people.append(someone)
        try:
            someone.place = self.loop.run_until_complete(self._enter(someone))
        except QueueFull:
            self.people.remove(someone)
            assert len(alike) == BOUND
            assert all(one.priority <= priority for one in alike)
        else:
            assert sum(one.wants == wants for one in self.people) <= BOUND

    async def _enter(self, someone: _Someone) -> Place:
        wanted = [self.places[index] for index in someone.wants]
        return self.line.enter(wanted, someone.priority, someone, deadline_s=3600)

    @precondition(lambda self: self.people)
    @rule(data=st.data(), late=st.booleans())
    def go(self, data: st.DataObject, late: bool) -> None:
        someone = data.draw(st.sampled_from(self.people))
        assert someone.place is not None
        if late:
            someone.place._expire()
            assert someone.calls == ["expired"]
        else:
            someone.place.leave()
            self.people.remove(someone)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(self.held))
        self.held.remove(permit)
        permit.release()

    @rule(index=st.integers(0, 2), limit=st.integers(0, 3))
    def resize(self, index: int, limit: int) -> None:
        self.places[index].set_limit(limit)

    @rule(seconds=st.floats(0, 1))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def nobody_waits_beside_a_free_permit(self) -> None:
        assert self.line.waiting == len(self.people)
        free = {index for index, place in enumerate(self.places) if place.in_use < place.limit}
        assert not any(someone.wants & free for someone in self.people)
        assert sum(place.in_use for place in self.places) == len(self.held)

    def teardown(self) -> None:
        for someone in list(self.people):
            assert someone.place is not None
            someone.place.leave()
            someone.place.leave()
        self.people.clear()
        for permit in self.held:
            permit.release()
        assert self.line.waiting == 0
        assert not any(place.in_use for place in self.places)
        self.loop.close()


LineMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestLine = LineMachine.TestCase
