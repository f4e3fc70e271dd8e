"""A codec's choices: the shared loop or an encoder of its own, and keyframes no closer than they may be."""

from __future__ import annotations

import pytest

from compositor.encode.encoder import Encoded
from compositor.encode.loops import Loop
from compositor.session.track import Plan, Track


class Scripted:
    """Stands for an encoder that is open; what it gives does not matter here."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling, self.closed = ceiling, False

    def retune(self, bitrate_bps: int) -> bool:
        return bitrate_bps <= self.ceiling

    def close(self) -> None:
        self.closed = True


def loop(bitrate_bps: int = 100) -> Loop:
    return Loop(tuple(Encoded(b"%d" % at, at % 5 == 0) for at in range(10)), bitrate_bps)


@pytest.fixture
def track() -> Track:
    return Track(1, 500, keyframe_ticks=8, rest_ticks=20)


def live(track: Track, tick: int, plan: Plan) -> None:
    track.encoder = track.encoder or Scripted(600)
    track.encoded(tick, Encoded(b"live", plan is Plan.LIVE_KEY))


def play(track: Track, ticks: range, *, idle: bool = True) -> list[str]:
    found = []
    for tick in ticks:
        plan = track.plan(tick, tick, idle=idle)
        found.append(plan.value)
        if plan is Plan.LOOP:
            track.looped(tick, tick)
        else:
            live(track, tick, plan)
    return found


def test_it_joins_the_loop_at_a_keyframe_and_stays(track):
    assert play(track, range(1, 3)) == ["live_key", "live"]
    track.loop = loop()
    assert play(track, range(3, 12)) == ["live", "live", *["loop"] * 7]


def test_speech_begins_with_a_keyframe_and_returns_at_the_loop_s_next_one(track):
    track.loop = loop()
    assert play(track, range(3)) == ["loop"] * 3
    assert play(track, range(3, 7), idle=False) == ["live_key", "live", "live", "live"]
    assert play(track, range(7, 12)) == ["live", "live", "live", "loop", "loop"]


def test_requests_for_keyframes_become_one(track):
    assert play(track, range(2), idle=False) == ["live_key", "live"]
    for _ in range(3):
        track.want_keyframe()
    assert play(track, range(2, 12), idle=False) == [*["live"] * 6, "live_key", *["live"] * 3]


def test_a_request_while_it_idles_is_answered_at_once_and_leaves_the_loop(track):
    track.loop = loop()
    play(track, range(9))
    track.want_keyframe()
    # The loop's own at 5 was four ticks ago: the next may come at 13.
    assert play(track, range(9, 12)) == ["loop", "loop", "loop"]
    assert track.plan(12, 12, idle=True) is Plan.LOOP


def test_a_picture_left_out_of_the_loop_is_followed_by_a_keyframe_of_an_encoder_s_is_not(track):
    track.loop = loop()
    play(track, range(2))
    track.left_out(room=True)
    assert track.plan(3, 3, idle=True) is Plan.LIVE_KEY
    live(track, 3, Plan.LIVE_KEY)
    track.left_out(room=True)
    assert track.plan(5, 6, idle=False) is Plan.LIVE


def test_viewers_that_did_not_keep_up_get_a_keyframe(track):
    play(track, range(2), idle=False)
    track.left_out(room=False)
    assert track.plan(5, 5, idle=False) is Plan.LIVE
    assert track.plan(9, 9, idle=False) is Plan.LIVE_KEY


def test_a_loop_that_is_too_fat_for_the_viewer_is_not_used(track):
    track.loop = loop(bitrate_bps=501)
    assert play(track, range(3)) == ["live_key", "live", "live"]
    track.retune(600)
    assert track.plan(5, 5, idle=True) is Plan.LOOP


def test_a_bitrate_is_changed_in_place_or_by_opening_anew_which_begins_with_a_keyframe(track):
    play(track, range(3), idle=False)
    first = track.encoder
    track.retune(300)
    assert (track.encoder, track.plan(3, 3, idle=False)) == (first, Plan.LIVE)
    track.retune(700)
    assert first.closed
    assert track.plan(4, 4, idle=False) is Plan.LIVE_KEY


def test_an_encoder_that_rests_is_closed(track):
    play(track, range(2), idle=False)
    track.loop = loop()
    encoder = track.encoder
    play(track, range(5, 22))
    assert not encoder.closed
    play(track, range(22, 24))
    assert encoder.closed
