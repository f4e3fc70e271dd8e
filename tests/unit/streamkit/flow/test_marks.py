from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.flow.marks import Marks


class Calls:
    def __init__(self, high: int, low: int | None = None) -> None:
        self.seen: list[str] = []
        self.marks = Marks(
            high, low, on_pause=lambda: self.seen.append("pause"), on_resume=lambda: self.seen.append("resume")
        )


def test_each_crossing_calls_once():
    calls = Calls(100)
    calls.marks.add(100)
    assert calls.seen == []
    calls.marks.add(1)
    calls.marks.add(50)
    assert calls.seen == ["pause"]
    calls.marks.remove(125)
    assert calls.seen == ["pause"], "26 is above the low mark of 25"
    calls.marks.remove(1)
    calls.marks.remove(25)
    assert calls.seen == ["pause", "resume"]


@pytest.mark.parametrize(("high", "low"), [(10, 11), (10, -1), (-1, None)])
def test_marks_must_be_in_order(high, low):
    with pytest.raises(ValueError, match="0 <= low <= high"):
        Calls(high, low)


def test_more_than_was_added_cannot_be_removed():
    calls = Calls(10)
    calls.marks.add(3)
    with pytest.raises(ValueError, match="only 3"):
        calls.marks.remove(4)


def test_a_callback_may_move_the_level():
    seen: list[str] = []

    def refill() -> None:
        seen.append("resume")
        if len(seen) < 5:
            marks.add(50)

    marks = Marks(40, 10, on_pause=lambda: seen.append("pause"), on_resume=refill)
    marks.add(50)
    marks.remove(50)
    assert seen == ["pause", "resume", "pause"]
    assert marks.paused


@given(st.integers(0, 100), st.data())
def test_pauses_and_resumes_alternate_and_match_the_level(high, data):
    low = data.draw(st.integers(0, high))
    calls = Calls(high, low)
    for step in data.draw(st.lists(st.integers(-60, 60), max_size=40)):
        if step >= 0:
            calls.marks.add(step)
        else:
            calls.marks.remove(min(-step, calls.marks.level_bytes))
        assert calls.seen == ["pause", "resume"] * (len(calls.seen) // 2) + ["pause"] * (len(calls.seen) % 2)
        assert calls.marks.paused == (len(calls.seen) % 2 == 1)
        if calls.marks.level_bytes > high:
            assert calls.marks.paused
        if calls.marks.level_bytes <= low:
            assert not calls.marks.paused
