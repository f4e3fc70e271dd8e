"""A face that speaks without end, in short; and the arithmetic that tells lips and voice apart."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from loadtest.relay.runs import Machine
from loadtest.soak.lips import Lips, Minute
from loadtest.soak.report import Process, Report, judged

#: Ticks a second, and where the two clocks of the streams happen to begin.
FPS = 25
SHOWN, HEARD = 2**32 - 90_000, 77_777
NTP_S = 3_990_000_000.0


def face(
    lips: Lips, first: int, ticks: int, *, said_ms: float = 0.0, moved_ms: float = 0.0, lost=frozenset()
) -> None:
    """Send ticks, late at random by up to 30 ms each.

    Args:
        lips: take them.
        first: tick.
        ticks: so many.
        said_ms: by which the picture's reports are wrong.
        moved_ms: by which its clock is.
        lost: pictures that are left out.
    """
    dice = random.Random(first)
    for tick in range(first, first + ticks):
        at_s = tick / FPS + dice.uniform(0.0, 0.03)
        shown = (SHOWN + tick * 3_600 + round(moved_ms * 90)) % 2**32
        if tick not in lost:
            lips.picture.stamped(shown, at_s + dice.uniform(0.0, 0.002))
        for half in (0, 1):
            lips.sound.stamped((HEARD + tick * 1_920 + half * 960) % 2**32, at_s + dice.uniform(0.0, 0.002))
        if tick % FPS == 0:
            ntp = round((NTP_S + tick / FPS) * 2**32)
            lips.picture.reported(ntp + round(said_ms / 1000 * 2**32), shown, at_s)
            lips.sound.reported(ntp, (HEARD + tick * 1_920) % 2**32, at_s)


def test_lips_that_are_together_are_so_however_late_they_come():
    lips = Lips()
    for minute in range(2):
        face(lips, minute * 1_500, 1_500)
        found = lips.minute()
        assert (found.pictures, found.packets_of_sound) == (1_500, 3_000)
        assert (found.pictures_missing, found.packets_of_sound_missing, found.pictures_late) == (0, 0, 0)
        assert (found.slip_ms, found.skew_median_ms, found.skew_most_ms) == (0.0, 0.0, 0.0)


def test_reports_that_say_another_time_are_a_skew():
    lips = Lips()
    face(lips, 0, 1_500, said_ms=45)
    found = lips.minute()
    assert (found.slip_ms, found.skew_median_ms, found.skew_most_ms) == (0.0, 45.0, 45.0)


def test_a_clock_that_moves_is_a_slip():
    lips = Lips()
    face(lips, 0, 1_500)
    assert lips.minute().slip_ms == 0.0
    face(lips, 1_500, 1_500, moved_ms=-60)
    assert lips.minute().slip_ms == 60.0


def test_what_is_left_out_is_missed_over_the_end_of_a_minute_too():
    lips = Lips()
    face(lips, 0, 50, lost={20, 21, 49})
    first = lips.minute()
    face(lips, 50, 50, lost={50})
    assert (first.pictures, first.pictures_missing) == (47, 2)
    assert lips.minute().pictures_missing == 2
    assert first.skew_median_ms is None, "two reports say little"


def test_nothing_is_none():
    found = Lips().minute()
    assert (found.pictures, found.slip_ms, found.skew_median_ms, found.lateness_most_ms) == (0, None, None, 0.0)


def minute(*, skew: float, slip: float) -> Minute:
    return Minute(
        pictures=1_500, pictures_missing=0, pictures_late=0, lateness_most_ms=3.0, packets_of_sound=3_000,
        packets_of_sound_missing=0, slip_ms=slip, skew_median_ms=skew, skew_most_ms=skew, skew_newest_most_ms=skew,
    )  # fmt: skip


def report(
    *, skew: float = 1.0, slip: float = 0.0, rise_mib: float = 1.0, settled_s: float = 600.0, **members
) -> Report:
    process = Process(
        name="edge", rss_mib=(1.0, 2.0, 3.0, 4.0), rise_mib=rise_mib, settled_s=settled_s, cpu_percent=1.0,
        files=(5, 5), threads=(3, 3), tasks=(7, 7),
    )  # fmt: skip
    given = {
        "held": {"headrace_avatar_sessions": 0.0}, "restarted": [], "lost": None, "processes": [process],
        "told": {"playback.finished": 3}, "ticks": {"speaking": 100, "idle": 1}, **members,
    }  # fmt: skip
    return Report(
        machine=Machine(cpu="", cpus=2, kernel="", python="", memory_bytes=1),
        seconds=60.0, load=[1.0], minutes=[minute(skew=0.0, slip=0.0), minute(skew=skew, slip=slip)], **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"skew": -40.0}, "lips after voice"),
        ({"slip": 40.0}, "clocks slipped"),
        ({"rise_mib": 8.1}, "after warm-up"),
        ({"held": {"headrace_speech_open": 1.0}}, "held at the end"),
        ({"lost": "the connection is closed"}, "stayed not"),
        ({"restarted": ["inference"]}, "started again"),
        ({"told": {"playback.failed": 1}}, "1 failed"),
        ({"ticks": {"speaking": 80, "idle": 20}}, "of the ticks spoke"),
    ],
)
def test_each_thing_that_is_wrong_is_a_line_of_its_own(members, words):
    assert all(good for good, _ in judged(report()))
    bad = [text for good, text in judged(report(**members)) if not good]
    assert len(bad) == 1
    assert words in bad[0]


def test_growth_is_judged_where_a_line_says_something():
    assert all(good for good, _ in judged(report(rise_mib=80.0, settled_s=299.0)))


@pytest.mark.slow
def test_a_few_seconds_of_real_speech(tmp_path):
    file = tmp_path / "speech.json"
    line = [sys.executable, "-m", "loadtest.soak", "--speech", "--minutes", "0.1", "--json", str(file)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert json.loads(done.stdout) == found
    assert found["minutes"][0]["pictures"] > 75
    assert abs(found["minutes"][0]["skew_most_ms"]) < 40
    assert {row["name"] for row in found["processes"]} >= {"edge", "compositor", "inference", "voice"}
    assert "held at the end: nothing" in done.stderr
