from __future__ import annotations

import pytest

from streamkit.flow.breaker import Breaker, BreakerPolicy, BreakerState, Ticket
from streamkit.flow.clock import ManualClock

CLOSED, OPEN, HALF_OPEN = BreakerState


class Bench:
    def __init__(self, **policy: float) -> None:
        self.clock = ManualClock()
        self.changes: list[BreakerState] = []
        self.breaker = Breaker(
            BreakerPolicy(**policy),  # type: ignore[arg-type]
            clock=self.clock,
            on_change=self.changes.append,
        )

    def ticket(self) -> Ticket:
        ticket = self.breaker.permit()
        assert ticket is not None
        return ticket

    def opened(self) -> Bench:
        while self.breaker.state is CLOSED:
            self.ticket().failure()
        return self

    def wait(self) -> None:
        self.clock.advance(self.breaker.retry_after_ms / 1000)


def test_failures_in_a_row_open_it():
    bench = Bench(failures=3)
    bench.ticket().failure()
    bench.ticket().failure()
    bench.ticket().success()
    bench.ticket().failure()
    bench.ticket().failure()
    assert bench.breaker.state is CLOSED
    bench.ticket().failure()
    assert bench.breaker.state is OPEN
    assert bench.breaker.permit() is None
    assert not bench.breaker.admits


def test_a_ratio_opens_it_once_there_is_enough_to_judge():
    bench = Bench(failures=1_000, ratio=0.5, minimum=10)
    for _ in range(4):
        bench.ticket().failure()
        bench.ticket().success()
    bench.ticket().failure()
    assert bench.breaker.state is CLOSED
    bench.ticket().failure()
    assert bench.breaker.state is OPEN


def test_the_ratio_looks_back_on_its_window_only():
    bench = Bench(failures=1_000, ratio=0.5, minimum=4, window_ms=1_000)
    for _ in range(3):
        bench.ticket().failure()
    bench.clock.advance(2)
    bench.ticket().failure()
    assert bench.breaker.state is CLOSED


def test_abandoned_attempts_say_nothing():
    bench = Bench(failures=2)
    bench.ticket().failure()
    bench.ticket().abandoned()
    assert bench.breaker.state is CLOSED
    bench.ticket().failure()
    assert bench.breaker.state is OPEN


def test_after_open_ms_one_probe_at_a_time():
    bench = Bench(failures=1, open_ms=1_000).opened()
    bench.clock.advance(0.999)
    assert bench.breaker.permit() is None
    assert bench.breaker.retry_after_ms == 1
    bench.clock.advance(0.001)
    assert bench.breaker.state is HALF_OPEN
    assert bench.breaker.retry_after_ms == 0
    probe = bench.ticket()
    assert bench.breaker.permit() is None
    probe.abandoned()
    bench.ticket().success()
    assert bench.breaker.state is CLOSED
    assert bench.changes == [OPEN, HALF_OPEN, CLOSED]


def test_failed_probes_double_the_wait_up_to_the_cap_and_success_resets_it():
    bench = Bench(failures=1, open_ms=1_000, open_cap_ms=5_000).opened()
    waits = []
    for _ in range(4):
        waits.append(bench.breaker.retry_after_ms)
        bench.wait()
        bench.ticket().failure()
    assert waits == [1_000, 2_000, 4_000, 5_000]
    bench.wait()
    bench.ticket().success()
    bench.opened()
    assert bench.breaker.retry_after_ms == 1_000


@pytest.mark.parametrize("settle", ["success", "failure", "abandoned"])
def test_attempts_from_before_do_not_decide_about_after(settle):
    bench = Bench(failures=1)
    long_stream = bench.ticket()
    bench.opened()
    bench.wait()
    probe = bench.ticket()
    getattr(long_stream, settle)()
    assert bench.breaker.state is HALF_OPEN
    assert bench.breaker.permit() is None, "the probe still runs"
    probe.success()
    assert bench.breaker.state is CLOSED


def test_an_attempt_from_before_does_not_open_it_again():
    bench = Bench(failures=1)
    long_stream = bench.ticket()
    bench.opened()
    bench.wait()
    bench.ticket().success()
    long_stream.failure()
    assert bench.breaker.state is CLOSED


def test_a_ticket_settles_once():
    bench = Bench(failures=2)
    ticket = bench.ticket()
    ticket.failure()
    ticket.failure()
    ticket.success()
    assert bench.breaker.state is CLOSED
    bench.ticket().failure()
    assert bench.breaker.state is OPEN


def test_a_long_probe_lets_the_next_one_in():
    bench = Bench(failures=1, probe_ms=5_000).opened()
    bench.wait()
    first = bench.ticket()
    bench.clock.advance(4.999)
    assert bench.breaker.permit() is None
    bench.clock.advance(0.001)
    second = bench.ticket()
    second.failure()
    first.success()
    assert bench.breaker.state is OPEN


def test_a_state_has_an_age():
    bench = Bench(failures=1)
    bench.clock.advance(3)
    assert bench.breaker.age_ms == 3_000
    bench.opened()
    assert bench.breaker.age_ms == 0


@pytest.mark.parametrize(
    "policy",
    [
        {"failures": 0},
        {"ratio": 0},
        {"ratio": 1.1},
        {"open_ms": 0},
        {"open_ms": 9, "open_cap_ms": 8},
        {"probe_ms": 0},
    ],
)
def test_a_policy_must_make_sense(policy):
    with pytest.raises(ValueError, match="must be"):
        BreakerPolicy(**policy)
