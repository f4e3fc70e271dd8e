from __future__ import annotations

import pytest

from streamkit.flow.clock import ManualClock
from streamkit.flow.quota import Limits, Quota, Reading, Refusal


def quota(*limits: int, parts: int = 1, burst_ms: int = 5_000) -> tuple[Quota, ManualClock]:
    clock = ManualClock()
    return Quota(Limits(*limits), parts=parts, burst_ms=burst_ms, clock=clock), clock


def test_without_limits_everything_goes_through_and_is_counted():
    free, _ = quota()
    assert [free.begin() for _ in range(1000)] == [None] * 1000
    assert free.streams == 1000
    assert free.readings() == ()
    free.charge(10_000)
    for _ in range(1000):
        free.end()
    with pytest.raises(ValueError, match="no stream"):
        free.end()


def test_requests_come_in_a_burst_and_then_at_the_rate_with_an_exact_advice():
    some, clock = quota(60)
    assert [some.begin() for _ in range(6)] == [None] * 5 + [Refusal("requests", 1_000)]
    assert some.readings() == (Reading("requests", 60, 0, 5_000),)
    clock.advance(0.5)
    assert some.begin() == Refusal("requests", 500)
    clock.advance(0.5)
    assert some.begin() is None


def test_tokens_are_settled_when_they_are_known_and_debt_is_worked_off_first():
    some, clock = quota(0, 600)  # ten a second, fifty at once
    assert some.begin() is None
    some.charge(30)  # the estimate
    assert some.begin() is None
    some.charge(30)
    assert some.begin() == Refusal("tokens", 1_100)
    some.charge(70 - 30)  # the first used more
    assert some.begin() == Refusal("tokens", 5_100)
    some.charge(10 - 30)  # the second less
    assert some.readings() == (Reading("tokens", 600, 0, 8_000),)
    clock.advance(3.1)
    assert some.begin() is None


def test_streams_at_a_time():
    some, _ = quota(0, 0, 2)
    assert [some.begin() for _ in range(3)] == [None, None, Refusal("streams", None)]
    some.end()
    assert some.begin() is None


def test_a_refused_request_uses_up_nothing():
    some, clock = quota(60, 600, 1)
    assert some.begin() is None
    for _ in range(100):
        assert some.begin() == Refusal("streams", None)
    some.end()
    some.charge(1_000)
    assert some.begin() == Refusal("tokens", 95_100)
    clock.advance(100)
    assert [reading.remaining for reading in some.readings()] == [5, 50]


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_parts_together_keep_to_the_limit(parts: int):
    per_minute, seconds = 2_400, 60
    made = [quota(per_minute, parts=parts) for _ in range(parts)]
    taken = 0
    for _ in range(seconds * 100):
        for some, clock in made:
            while some.begin() is None:
                taken += 1
            clock.advance(0.01)
    assert taken == pytest.approx(per_minute, rel=0.1)


def test_other_parts_and_limits_are_in_force_at_once_and_debt_stays():
    some, clock = quota(60, 600)
    some.charge(100)
    some.change(Limits(60, 600, 4), parts=4)
    assert some.readings() == (Reading("requests", 60, 1, 0), Reading("tokens", 600, 0, 25_000))
    assert some.begin() == Refusal("tokens", 20_400)
    some.change(Limits(), parts=4)
    assert some.readings() == ()
    assert some.begin() is None
    some.change(Limits(60), parts=1)
    clock.advance(1)
    assert some.begin() is None


@pytest.mark.parametrize(("limits", "parts"), [((-1,), 1), ((1, 1, -1), 1), ((1,), 0)])
def test_impossible_limits_are_refused(limits, parts):
    with pytest.raises(ValueError, match="limits cannot be negative"):
        Quota(Limits(*limits), parts=parts)
