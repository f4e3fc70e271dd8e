from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.flow.clock import ManualClock
from streamkit.flow.window import Window


def test_old_counts_fall_out():
    clock = ManualClock(100.0)
    window = Window(10_000, clock=clock)
    window.add(3)
    clock.advance(5)
    window.add()
    assert window.total() == 4
    clock.advance(5)
    assert window.total() == 1
    clock.advance(1_000_000)
    assert window.total() == 0
    window.add(2)
    window.clear()
    assert window.total() == 0


@pytest.mark.parametrize(("span", "slots"), [(0, 10), (10, 0)])
def test_a_window_has_a_span_and_slots(span, slots):
    with pytest.raises(ValueError, match="positive"):
        Window(span, slots=slots)


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 5)), max_size=60))
def test_the_total_is_right_to_one_slot(steps):
    clock = ManualClock()
    window = Window(1_000, slots=10, clock=clock)
    events: list[tuple[float, int]] = []
    for wait_ms, count in steps:
        clock.advance(wait_ms / 1000)
        window.add(count)
        events.append((clock(), count))
        surely = sum(n for at, n in events if clock() - at < 0.899)
        possibly = sum(n for at, n in events if clock() - at < 1.001)
        assert surely <= window.total() <= possibly
