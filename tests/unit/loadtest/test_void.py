from __future__ import annotations

import pytest

from loadtest.relay.void import FOREIGN_MAX, LOAD_BUSY_MAX, void_reason


def test_a_quiet_run_counts():
    assert void_reason(foreign=0.0, load_busy=0.4, saturating=False) is None


def test_the_bounds_themselves():
    assert void_reason(foreign=FOREIGN_MAX, load_busy=LOAD_BUSY_MAX - 1e-9, saturating=False) is None


@pytest.mark.parametrize(
    ("foreign", "load_busy", "word"), [(0.051, 0.1, "gateway's core"), (0.0, 0.90, "load side"), (0.5, 1.0, "5%")]
)
def test_a_contended_run_says_why_it_does_not_count(foreign, load_busy, word):
    assert word in (void_reason(foreign=foreign, load_busy=load_busy, saturating=False) or "")


def test_a_saturating_scenario_may_saturate_the_load_side_only():
    assert void_reason(foreign=0.0, load_busy=1.0, saturating=True) is None
    assert void_reason(foreign=0.2, load_busy=1.0, saturating=True) is not None
