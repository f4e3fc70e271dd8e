"""The only pacemaker: no drift over hours, however late its wake-ups and however slow the edge."""

from __future__ import annotations

import random

from compositor.session.timeline import TICK_S, Timeline


def test_an_hour_of_late_wakeups_and_a_slow_edge_drifts_by_nothing():
    random_ = random.Random(1)
    timeline = Timeline(100.0, window=3)
    now_s = 100.0
    samples = pictures = units = 0
    while now_s < 100.0 + 3_600.0:
        now_s = max(now_s, timeline.due_s)
        # Mostly a little late, at times by several ticks; the edge hangs now and then.
        now_s += random_.expovariate(1 / 0.003) if random_.random() < 0.99 else random_.uniform(0.05, 0.4)
        tick = timeline.advance(now_s)
        if tick is not None:
            units += 1
            audio_s, video_s = tick.audio_pts(0) / 48_000, tick.video_pts / 90_000
            assert abs(audio_s - video_s) < 1e-9
            assert tick.audio_pts(1) - tick.audio_pts(0) == 960
            # What is sent now is of now: never ahead, and behind only by what this wake-up was late.
            assert now_s - 100.0 - video_s >= -1e-6
            samples += 1920
            pictures += not tick.late
        if random_.random() < 0.97:
            timeline.ack(timeline.sent, now_s)
    assert units + timeline.passed == round((timeline.due_s - 100.0) / TICK_S)
    assert abs(timeline.due_s - now_s) <= 0.5
    assert samples == units * 1920
    assert pictures > units * 0.9


def test_late_ticks_keep_their_sound_and_leave_out_their_picture():
    timeline = Timeline(0.0, window=8)
    assert timeline.advance(0.0).late is False
    found = [timeline.advance(0.170) for _ in range(4)]
    assert [tick.number for tick in found] == [1, 2, 3, 4]
    assert [tick.late for tick in found] == [True, True, True, False]
    assert timeline.due_s == 0.2


def test_without_room_no_unit_is_made_and_time_goes_on():
    timeline = Timeline(0.0, window=3)
    for number in range(3):
        assert timeline.advance(number * TICK_S) is not None
    assert timeline.advance(0.12) is None
    # A long stall is over in one step: nothing is made up for what nobody had room for.
    assert timeline.advance(10.01) is None
    assert timeline.passed == 248
    assert timeline.ack(3, 10.02)
    tick = timeline.advance(timeline.due_s)
    assert (tick.seq, tick.number, tick.late) == (4, 251, False)
    assert tick.video_pts == 251 * 3_600


def test_acknowledgements_are_of_units_that_were_sent_and_never_go_back():
    timeline = Timeline(0.0, window=3)
    assert not timeline.ack(1, 0.0)
    timeline.advance(0.0)
    timeline.advance(0.04)
    assert timeline.ack(2, 0.05)
    assert timeline.ack(1, 0.06)
    assert (timeline.acked, timeline.unacked) == (2, 0)
    assert timeline.silent_s(50.0) == 0.0
    timeline.advance(50.0)
    assert timeline.silent_s(53.0) == 3.0
