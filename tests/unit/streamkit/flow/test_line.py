from __future__ import annotations

import asyncio

import pytest

from streamkit.flow.clock import ManualClock
from streamkit.flow.line import Line, Place
from streamkit.flow.permits import Permit, Permits
from streamkit.flow.queue import QueueFull
from tests.support.timing import MS

pytestmark = pytest.mark.anyio
LONG_S = 3600.0


class Someone:
    """A waiter that writes down what happened to it."""

    def __init__(self, name: str, log: list[str], *, keeps: bool = True) -> None:
        self.name, self.log, self.keeps = name, log, keeps
        self.permit: Permit | None = None
        self.called = asyncio.Event()

    def granted(self, of: Permits, permit: Permit) -> None:
        self.log.append(self.name)
        self.called.set()
        if self.keeps:
            self.permit = permit
        else:
            permit.release()

    def displaced(self) -> None:
        self.log.append(f"{self.name} displaced")

    def expired(self) -> None:
        self.log.append(f"{self.name} expired")
        self.called.set()


class Hall:
    """Three places with one permit each, all taken, and a line before them."""

    def __init__(self, *, bound: int = 10, ageing_ms: int = 1_000) -> None:
        self.clock = ManualClock()
        self.line = Line(bound=bound, ageing_ms=ageing_ms, clock=self.clock)
        self.places = {name: Permits(1) for name in "abc"}
        self.held = {name: [place.try_acquire()] for name, place in self.places.items()}
        for place in self.places.values():
            self.line.watch(place)
        self.log: list[str] = []
        self.people: dict[str, Someone] = {}

    def enter(
        self, name: str, places: str, priority: int = 5, *, keeps: bool = True, deadline_s: float = LONG_S
    ) -> Place:
        someone = self.people[name] = Someone(name, self.log, keeps=keeps)
        wanted = [self.places[place] for place in places]
        return self.line.enter(wanted, priority, someone, deadline_s=deadline_s)

    def free(self, name: str) -> None:
        permit = self.held[name].pop()
        assert permit is not None
        permit.release()
        for someone in self.people.values():
            if someone.permit is not None:
                self.held[name].append(someone.permit)
                someone.permit = None


async def test_whoever_waits_takes_the_first_that_any_of_its_places_frees() -> None:
    hall = Hall()
    hall.enter("x", "ab")
    hall.free("c")
    assert hall.log == []
    assert hall.places["c"].in_use == 0
    hall.free("b")
    assert hall.log == ["x"]
    assert hall.line.waiting == 0
    hall.free("b")
    assert hall.places["b"].in_use == 0


async def test_classes_then_age_within_one_set_of_places() -> None:
    hall = Hall()
    for name, priority in [("low", 9), ("first", 5), ("second", 5), ("high", 1)]:
        hall.enter(name, "a", priority)
    for _ in range(4):
        hall.free("a")
    assert hall.log == ["high", "first", "second", "low"]


async def test_waiting_raises_across_sets_too() -> None:
    hall = Hall(ageing_ms=1_000)
    hall.enter("old", "ab", 6)
    hall.clock.advance(3)
    hall.enter("new", "a", 4)
    hall.free("a")
    assert hall.log == ["old"]


async def test_a_crowd_for_one_set_does_not_starve_the_few_of_another() -> None:
    hall = Hall(bound=100)
    for number in range(6):
        hall.enter(f"crowd{number}", "ab")
    hall.enter("quiet0", "a")
    hall.enter("quiet1", "a")
    for _ in range(5):
        hall.free("a")
    assert hall.log == ["crowd0", "quiet0", "crowd1", "quiet1", "crowd2"]


async def test_each_set_has_its_own_bound() -> None:
    hall = Hall(bound=2)
    hall.enter("x", "a")
    hall.enter("y", "a")
    with pytest.raises(QueueFull):
        hall.enter("z", "a")
    hall.enter("z", "ab")
    assert hall.line.waiting == 3


async def test_at_the_bound_a_higher_class_takes_the_room_of_the_newest_of_the_lowest() -> None:
    hall = Hall(bound=3)
    for name, priority in [("five", 5), ("eight", 8), ("late eight", 8)]:
        hall.enter(name, "a", priority)
    hall.enter("four", "a", 4)
    assert hall.log == ["late eight displaced"]
    with pytest.raises(QueueFull):
        hall.enter("another eight", "a", 8)
    hall.free("a")
    assert hall.log[1:] == ["four"]


async def test_nobody_waits_in_a_line_without_room() -> None:
    with pytest.raises(QueueFull):
        Hall(bound=0).enter("x", "a", 1)


async def test_one_that_leaves_costs_nobody_anything() -> None:
    hall = Hall()
    place = hall.enter("x", "a")
    hall.enter("y", "a")
    place.leave()
    place.leave()
    hall.free("a")
    assert hall.log == ["y"]
    place.leave()
    assert hall.line.waiting == 0


async def test_the_deadline_ends_the_waiting() -> None:
    hall = Hall()
    hall.enter("x", "a", deadline_s=5 * MS)
    await asyncio.wait_for(hall.people["x"].called.wait(), LONG_S)
    assert hall.log == ["x expired"]
    assert hall.line.waiting == 0
    hall.free("a")
    assert hall.places["a"].in_use == 0


async def test_one_who_cannot_use_its_permit_gives_it_to_the_next_however_many_they_are() -> None:
    hall = Hall(bound=5_000)
    for number in range(3_000):
        hall.enter(f"x{number}", "a", keeps=False)
    hall.enter("last", "a")
    hall.free("a")
    assert len(hall.log) == 3_001
    assert hall.places["a"].in_use == 1


async def test_a_limit_that_grows_lets_waiters_in() -> None:
    hall = Hall()
    for name in "xyz":
        hall.enter(name, "a")
    hall.places["a"].set_limit(3)
    assert hall.log == ["x", "y"]
