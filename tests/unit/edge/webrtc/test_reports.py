"""The time of day in sender reports: one distance from media time for all that a peer sends."""

from __future__ import annotations

import random

import pytest

from edge.webrtc.reports import Reports

BEGAN_S = 3_990_000_000.0


def ntp(seconds: float) -> int:
    return round(seconds * 2**32)


def said_s(reports: Reports, media_s: float, sent_s: float) -> float:
    return reports.time_of(media_s, ntp(BEGAN_S + sent_s)) / 2**32 - BEGAN_S


def test_sound_that_is_sent_early_and_units_that_are_late_keep_their_distance():
    reports, dice = Reports(), random.Random(3)
    said_s(reports, 0.0, 0.0)
    for tick in range(1, 500):
        sent_s = tick * 0.04 + dice.uniform(0.0, 0.05)
        shown = said_s(reports, tick * 0.04, sent_s)
        halves = [said_s(reports, tick * 0.04 + early, sent_s) for early in (0.0, 0.02)]
        assert halves[0] - shown == pytest.approx(0.0, abs=0.001)
        assert halves[1] - halves[0] == pytest.approx(0.02, abs=0.001)


def test_a_clock_that_runs_slower_is_followed_and_one_that_is_set_is_followed_at_once():
    reports = Reports()
    for tick in range(25 * 600):
        last = said_s(reports, tick * 0.04, tick * 0.04 * 1.0005)
    # Half a part in a thousand: after ten minutes 300 ms.
    assert last == pytest.approx(600 * 1.0005, abs=0.05)
    assert said_s(reports, 600.0, 4_200.0) == pytest.approx(4_200.0)
