from __future__ import annotations

import pytest

from streamkit.flow.permits import Permit, Permits


def taken(permits: Permits) -> Permit:
    permit = permits.try_acquire()
    assert permit is not None
    return permit


def test_no_more_than_the_limit():
    permits = Permits(2)
    first = taken(permits)
    taken(permits)
    assert permits.try_acquire() is None
    first.release()
    first.release()
    assert permits.in_use == 1


def test_a_limit_may_shrink_under_use():
    permits = Permits(3)
    held = [taken(permits) for _ in range(3)]
    permits.set_limit(1)
    assert permits.in_use == 3
    held[0].release()
    held[1].release()
    assert permits.try_acquire() is None
    held[2].release()
    assert permits.try_acquire() is not None
    with pytest.raises(ValueError, match="negative"):
        permits.set_limit(-1)


def test_who_waits_is_told_of_what_is_free_and_of_nothing_else():
    permits = Permits(2)
    told: list[int] = []
    permits.on_free = lambda of: told.append(of.limit - of.in_use)
    first, second = taken(permits), taken(permits)
    permits.set_limit(1)
    first.release()
    assert told == [], "one less than before is still one too many"
    second.release()
    permits.set_limit(3)
    assert told == [1, 3]


def test_a_permit_is_taken_up_again_within_its_release():
    permits = Permits(1)
    next_ones: list[Permit] = []
    held = taken(permits)
    permits.on_free = lambda of: next_ones.append(taken(of))
    held.release()
    assert (permits.in_use, len(next_ones)) == (1, 1)
    assert permits.try_acquire() is None, "nobody slips in between"
