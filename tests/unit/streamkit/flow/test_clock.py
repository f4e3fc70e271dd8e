from __future__ import annotations

import time

import pytest

from streamkit.flow.clock import MONOTONIC, ManualClock


def test_the_default_is_the_monotonic_clock():
    before = time.monotonic()
    assert before <= MONOTONIC() <= time.monotonic()


def test_a_manual_clock_moves_only_when_told():
    clock = ManualClock(5.0)
    assert clock() == clock() == 5.0
    clock.advance(0.25)
    assert clock() == 5.25


def test_no_clock_goes_back():
    with pytest.raises(ValueError, match="cannot go back"):
        ManualClock().advance(-1)
