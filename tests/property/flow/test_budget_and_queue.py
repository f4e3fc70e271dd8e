"""Budgets and queues against simple models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.flow.budget import Budget
from streamkit.flow.clock import ManualClock
from streamkit.flow.queue import PriorityQueue, QueueFull

MOVES = st.lists(
    st.tuples(st.sampled_from(["reserve", "release"]), st.sampled_from("abc"), st.integers(0, 60)), max_size=60
)


@given(st.integers(0, 150), MOVES)
def test_a_budget_is_the_sum_of_its_accounts(limit, moves):
    budget = Budget(limit)
    model = dict.fromkeys("abc", 0)
    high = 0
    for what, name, size in moves:
        account = budget.account(name)
        if what == "reserve":
            fits = sum(model.values()) + size <= limit
            assert account.reserve(size) == fits
            model[name] += size if fits else 0
        elif size <= model[name]:
            account.release(size)
            model[name] -= size
        else:
            with pytest.raises(ValueError, match="cannot release"):
                account.release(size)
        high = max(high, sum(model.values()))
        assert {key: budget.account(key).used_bytes for key in model} == model
        assert budget.used_bytes == sum(model.values()) <= limit
        assert budget.high_water == high


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 9)), st.just("pop"), st.just("remove"), st.integers(0, 2_500)
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([0, 1_000]))
@settings(deadline=None)
def test_the_queue_is_its_model(steps, ageing_ms):
    clock = ManualClock()
    queue: PriorityQueue[int] = PriorityQueue(6, ageing_ms=ageing_ms, clock=clock)
    model: list[tuple[int, int, float, tuple[int, int]]] = []

    def order(entry: tuple[int, int, float, tuple[int, int]]) -> tuple[int, int]:
        priority, number, since, _ = entry
        raised = int((clock() - since) / (ageing_ms / 1000)) if ageing_ms else 0
        return max(1, priority - raised), number

    for number, step in enumerate(steps):
        match step:
            case "pop":
                if model:
                    first = min(model, key=order)
                    model.remove(first)
                    assert queue.pop() == first[1]
            case "remove":
                if model:
                    place = model.pop(len(model) // 2)[3]
                    assert queue.remove(place)
                    assert not queue.remove(place)
            case (_, priority):
                if len(model) == 6:
                    with pytest.raises(QueueFull):
                        queue.push(number, priority)
                else:
                    model.append((priority, number, clock(), queue.push(number, priority)))
            case int(milliseconds):
                clock.advance(milliseconds / 1000)
        assert len(queue) == len(model)


@given(
    pushed=st.lists(st.tuples(st.integers(1, 9), st.floats(0, 3)), max_size=20), removed=st.sets(st.integers(0, 19))
)
def test_the_order_that_is_told_is_the_order_that_is_given(pushed, removed):
    clock = ManualClock()
    queue: PriorityQueue[int] = PriorityQueue(100, ageing_ms=500, clock=clock)
    for number, (priority, pause_s) in enumerate(pushed):
        place = queue.push(number, priority)
        if number in removed:
            queue.remove(place)
        clock.advance(pause_s)
    told = list(queue.ordered())
    assert told == [queue.pop() for _ in told]
    assert not len(queue)
