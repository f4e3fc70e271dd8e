"""A face's ticks against those of a microphone, on a clock that does not wait."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest

from compositor.session.phase import MOST_S, SPARE_S, Phase
from compositor.session.timeline import TICK_S, Timeline


def waits(ready_at: Callable[[int], float], ticks: int) -> tuple[list[float], list[int]]:
    """Return how long each of a microphone's ticks waited, and the shown ones before which the face held still."""
    phase, timeline = Phase(), Timeline(0.0, window=ticks)
    found: list[float] = []
    held: list[int] = []
    while len(found) < ticks:
        due_s = timeline.due_s
        timeline.advance(due_s)
        ready_s = ready_at(len(found))
        if ready_s > due_s:
            held.append(len(found))
            phase.held()
            continue
        found.append(due_s - ready_s)
        earlier_s = phase.shown(due_s - ready_s)
        assert abs(earlier_s) <= MOST_S
        timeline.move(earlier_s)
    return found, held


@pytest.mark.parametrize("first_s", [0.0005, 0.010, 0.0395])
def test_wherever_they_meet_the_wait_becomes_short_and_stays_so(first_s: float):
    found, held = waits(lambda number: number * TICK_S - first_s, 200)
    assert not held
    assert found[0] == pytest.approx(first_s)
    assert all(waited_s == pytest.approx(SPARE_S) for waited_s in found[60:])


def test_what_a_stall_left_waiting_is_caught_up_with():
    found, held = waits(lambda number: number * TICK_S - 0.004 + (0.2 if number == 100 else 0.0), 1_200)
    # Five ticks went by with nothing to show, and all that follow would wait for them for ever.
    assert held == [100] * 5
    assert found[101] > 0.19
    assert statistics.median(found[-200:]) == pytest.approx(SPARE_S, abs=0.001)


def test_arrivals_that_scatter_are_waited_for_and_no_longer_than_they_scatter():
    random_ = random.Random(1)
    late_s = [random_.uniform(0.0, 0.015) for _ in range(5_000)]
    found, held = waits(lambda number: number * TICK_S + late_s[number], 5_000)
    # After the first seconds nothing comes too late.
    assert not [number for number in held if number > 100]
    assert max(found[500:]) < 0.015 + 2 * SPARE_S


@pytest.mark.parametrize("parts", [300e-6, -300e-6])
def test_a_microphone_whose_clock_is_wrong_is_followed(parts: float):
    found, held = waits(lambda number: number * TICK_S * (1 + parts) - 0.02, 10_000)
    assert not held
    assert all(abs(waited_s - SPARE_S) < 0.004 for waited_s in found[100:])
