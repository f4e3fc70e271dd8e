from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.flow.clock import ManualClock
from streamkit.flow.retry_budget import RetryBudget


def drain(budget: RetryBudget) -> int:
    taken = 0
    while budget.withdraw():
        taken += 1
    return taken


def test_a_quiet_worker_has_the_floor():
    clock = ManualClock()
    budget = RetryBudget(clock=clock)
    assert drain(budget) == 50
    assert budget.refused == 1
    clock.advance(11)
    assert drain(budget) == 50


def test_a_busy_worker_has_a_fifth_of_its_requests_more():
    budget = RetryBudget(clock=ManualClock())
    for _ in range(1_000):
        budget.deposit()
    assert drain(budget) == 250


def test_requests_expire():
    clock = ManualClock()
    budget = RetryBudget(floor_per_s=0, clock=clock)
    for _ in range(10):
        budget.deposit()
    assert budget.available == 2
    clock.advance(10)
    assert not budget.withdraw()


@given(st.integers(0, 2_000))
def test_five_requests_earn_one_retry_exactly(requests):
    budget = RetryBudget(floor_per_s=0, clock=ManualClock())
    for _ in range(requests):
        budget.deposit()
    assert budget.available == requests // 5


@given(st.lists(st.tuples(st.sampled_from(["request", "retry"]), st.integers(0, 400)), max_size=200))
def test_retries_never_pass_the_budget_in_any_window(steps):
    clock = ManualClock()
    budget = RetryBudget(ratio=0.2, floor_per_s=0.5, clock=clock)
    requests: list[float] = []
    retries: list[float] = []
    for what, wait_ms in steps:
        clock.advance(wait_ms / 1000)
        if what == "request":
            budget.deposit()
            requests.append(clock())
        elif budget.withdraw():
            retries.append(clock())
            # Right to one slot of a second at either end of the window.
            recent = sum(clock() - at < 9 for at in retries)
            assert recent <= 5 + 0.2 * sum(clock() - at <= 10 for at in requests) + 1e-6
