"""Events that wait: bounded in bytes, the oldest dropped and counted, nothing forgotten before it is stored."""

from __future__ import annotations

from observe.spool import Spool, Spooled


def event(number: int, feed: str = "edge") -> Spooled:
    return Spooled(f"life-{number}-0", feed, "headrace.events.here.x", b"x" * 100)


SIZE = event(1).size


def test_events_leave_when_they_are_stored_and_not_before():
    spool = Spool(10 * SIZE)
    for number in range(1, 5):
        spool.push(event(number))
    assert [one.id for one in spool.next(2)] == ["life-1-0", "life-2-0"]
    assert len(spool) == 4
    # Acknowledgements come in any order; what a feed may forget is what everything before it is stored.
    spool.stored("life-2-0")
    assert (len(spool), dict(spool.seen)) == (3, {})
    assert [one.id for one in spool.next(9)] == ["life-1-0", "life-3-0", "life-4-0"]
    spool.stored("life-1-0")
    assert (len(spool), spool.seen["edge"]) == (2, "life-2-0")
    for number in (3, 4):
        spool.stored(f"life-{number}-0")
    assert (len(spool), spool.size_bytes, spool.dropped) == (0, 0, 0)


def test_the_oldest_give_way_and_are_counted():
    spool = Spool(3 * SIZE)
    for number in range(1, 6):
        spool.push(event(number))
        assert spool.size_bytes <= 3 * SIZE
    assert [one.id for one in spool.next(9)] == ["life-3-0", "life-4-0", "life-5-0"]
    assert spool.dropped == 2
    # They are gone for good: their feed need not keep them.
    assert spool.seen["edge"] == "life-2-0"


def test_one_that_is_stored_and_waits_for_its_elders_is_not_counted_as_lost():
    spool = Spool(2 * SIZE)
    spool.push(event(1))
    spool.push(event(2))
    spool.stored("life-2-0")
    spool.push(event(3))
    spool.push(event(4))
    assert spool.dropped == 1
    assert [one.id for one in spool.next(9)] == ["life-3-0", "life-4-0"]


def test_a_second_copy_is_not_taken_and_one_too_large_is_dropped():
    spool = Spool(2 * SIZE)
    spool.push(event(1))
    spool.push(event(1))
    assert (len(spool), spool.dropped) == (1, 0)
    spool.push(Spooled("big", "edge", "s", b"x" * 3 * SIZE))
    assert (len(spool), spool.dropped) == (1, 1)


def test_a_late_acknowledgement_of_what_was_dropped_changes_nothing():
    spool = Spool(SIZE)
    spool.push(event(1))
    spool.push(event(2))
    spool.stored("life-1-0")
    assert [one.id for one in spool.next(9)] == ["life-2-0"]
