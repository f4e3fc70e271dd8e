from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamkit.flow.bucket import TokenBucket
from streamkit.flow.clock import ManualClock


def test_a_burst_then_the_rate():
    clock = ManualClock()
    bucket = TokenBucket(10, 3, clock=clock)
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]
    assert bucket.retry_after_ms() == 100
    clock.advance(0.1)
    assert bucket.try_take()
    assert not bucket.try_take()
    clock.advance(60)
    assert bucket.tokens == 3


def test_what_can_never_be_is_said():
    bucket = TokenBucket(0, 5, clock=ManualClock())
    assert bucket.retry_after_ms(5) == 0
    assert bucket.retry_after_ms(6) is None
    assert bucket.try_take(5)
    assert bucket.retry_after_ms() is None


def test_a_new_rate_holds_from_now_on():
    clock = ManualClock()
    bucket = TokenBucket(1, 10, clock=clock)
    bucket.try_take(10)
    clock.advance(2)
    bucket.set_rate(5)
    assert bucket.rate_per_s == 5
    assert bucket.tokens == 2
    clock.advance(1)
    assert bucket.tokens == 7
    bucket.set_rate(5, burst=4)
    assert bucket.tokens == 4


@pytest.mark.parametrize(("rate", "burst"), [(-1, 1), (1, 0)])
def test_numbers_must_make_sense(rate, burst):
    with pytest.raises(ValueError, match="bucket needs"):
        TokenBucket(rate, burst)


@given(st.floats(0.01, 10_000), st.integers(1, 1_000), st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 50))))
def test_never_more_than_burst_and_rate(rate, burst, steps):
    clock = ManualClock()
    bucket = TokenBucket(rate, burst, clock=clock)
    taken = 0
    for wait_ms, count in steps:
        clock.advance(wait_ms / 1000)
        if bucket.try_take(count):
            taken += count
        assert taken <= burst + rate * clock() + 1e-3


@given(st.floats(0.01, 10_000), st.integers(1, 1_000), st.integers(1, 1_000), st.integers(0, 1_000))
def test_who_waits_as_told_gets_it_and_no_later_than_needed(rate, burst, count, spent):
    assume(count <= burst)
    clock = ManualClock(1_000_000.0)
    bucket = TokenBucket(rate, burst, clock=clock)
    bucket.try_take(min(spent, burst))
    wait_ms = bucket.retry_after_ms(count)
    assert wait_ms is not None
    if wait_ms > 1:
        clock.advance((wait_ms - 1) / 1000)
        missing = count - bucket.tokens
        assert missing > -1e-3
        clock.advance(0.001)
    else:
        clock.advance(wait_ms / 1000)
    assert bucket.try_take(count)


def test_what_is_known_afterwards_is_charged_and_leaves_a_debt_that_the_rate_works_off():
    clock = ManualClock()
    bucket = TokenBucket(10, 20, clock=clock)
    bucket.charge(50)
    assert bucket.tokens == -30
    assert not bucket.try_take()
    assert bucket.retry_after_ms() == 3_100
    assert bucket.full_in_ms == 5_000
    clock.advance(3.1)
    assert bucket.try_take()


def test_what_is_given_back_never_exceeds_the_burst():
    bucket = TokenBucket(10, 20, clock=ManualClock())
    bucket.charge(5)
    bucket.charge(-100)
    assert bucket.tokens == bucket.burst == 20
    assert bucket.full_in_ms == 0
    bucket.set_rate(0)
    bucket.charge(1)
    assert bucket.full_in_ms is None
