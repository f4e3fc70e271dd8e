from __future__ import annotations

import pytest

from streamkit.flow.clock import ManualClock
from streamkit.flow.queue import PriorityQueue, QueueFull


def queue(bound: int = 100, ageing_ms: int = 1_000) -> tuple[PriorityQueue[str], ManualClock]:
    clock = ManualClock()
    return PriorityQueue(bound, ageing_ms=ageing_ms, clock=clock), clock


def drained(waiting: PriorityQueue[str]) -> list[str]:
    return [waiting.pop() for _ in range(len(waiting))]


def test_the_highest_class_first_and_the_oldest_within():
    waiting, _ = queue()
    for name, priority in [("c5", 5), ("a1", 1), ("d5", 5), ("b2", 2), ("e9", 9)]:
        waiting.push(name, priority)
    assert drained(waiting) == ["a1", "b2", "c5", "d5", "e9"]


def test_each_ageing_ms_raises_by_one_class():
    waiting, clock = queue(ageing_ms=1_000)
    waiting.push("old 5", 5)
    clock.advance(1.999)
    waiting.push("new 4", 4)
    assert waiting.pop() == "old 5", "one class up, it is older within class 4"
    waiting.push("old 5", 5)
    clock.advance(0.5)
    waiting.push("new 3", 3)
    assert drained(waiting) == ["new 3", "new 4", "old 5"]


def test_nobody_starves_behind_the_highest_class():
    waiting, clock = queue(ageing_ms=1_000)
    waiting.push("lowest", 9)
    for turn in range(9):
        waiting.push(f"highest {turn}", 1)
        clock.advance(1)
        served = waiting.pop()
        if served == "lowest":
            assert turn == 7
            return
    pytest.fail("the lowest class was never served")


def test_without_ageing_waiting_counts_for_nothing():
    waiting, clock = queue(ageing_ms=0)
    waiting.push("low", 9)
    clock.advance(1_000_000)
    waiting.push("high", 8)
    assert waiting.pop() == "high"


def test_the_bound_holds():
    waiting, _ = queue(bound=1)
    waiting.push("a", 1)
    with pytest.raises(QueueFull, match="bound of 1"):
        waiting.push("b", 1)
    waiting.pop()
    with pytest.raises(IndexError):
        waiting.pop()


def test_a_place_is_removed_once():
    waiting, _ = queue()
    place = waiting.push("a", 3)
    assert waiting.remove(place)
    assert not waiting.remove(place)
    assert len(waiting) == 0
    other = waiting.push("b", 3)
    assert waiting.pop() == "b"
    assert not waiting.remove(other)


@pytest.mark.parametrize("priority", [0, 10, -1])
def test_there_are_nine_classes(priority):
    waiting, _ = queue()
    with pytest.raises(ValueError, match="1 to 9"):
        waiting.push("a", priority)


def test_who_matters_least_makes_room_and_only_for_somebody_who_matters_more():
    waiting, _ = queue()
    for name, priority in [("a5", 5), ("b9", 9), ("c9", 9), ("d4", 4)]:
        waiting.push(name, priority)
    assert waiting.displace(4) == "c9", "the newest of the lowest class"
    assert waiting.displace(9) is None, "an equal is no reason"
    assert [waiting.displace(1) for _ in range(4)] == ["b9", "a5", "d4", None]
    assert len(waiting) == 0


def test_rank_says_how_far_the_first_has_aged():
    waiting, clock = queue(ageing_ms=1_000)
    assert waiting.rank == 10
    waiting.push("a", 4)
    assert waiting.rank == 4
    clock.advance(2.5)
    assert waiting.rank == 2
