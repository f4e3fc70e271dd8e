"""What a viewer that is too slow, interrupted, or new to the stream gets, and what it does not."""

from __future__ import annotations

from collections import Counter

from edge.avatars.backlog import Backlog
from edge.avatars.tick import Tick
from streamkit.wire.pb import compositor_pb2 as pb


class Rig:
    def __init__(self, *, codec: int | None = pb.H264, audio: bool = True, bound: int = 3) -> None:
        self.fates: list[tuple[int, str]] = []
        self.asked = 0
        self.seq = 0
        self.backlog = Backlog(codec, audio=audio, fate=self.fate, keyframe=self.keyframe, bound=bound)

    def fate(self, tick: Tick, fate: str) -> None:
        self.fates.append((tick.unit.seq, fate))

    def keyframe(self) -> None:
        self.asked += 1

    def tick(self, kind: str = "d", *, epoch: int = 1, speaking: bool = False, codec: int = pb.H264) -> Tick:
        """`k` has a keyframe, `d` another picture, `-` none."""
        self.seq += 1
        unit = pb.Unit(seq=self.seq, epoch=epoch, speaking=speaking, audio=[pb.Audio(data=b"%d" % self.seq)])
        if kind != "-":
            unit.video.append(pb.Video(codec=codec, data=b"%d" % self.seq, keyframe=kind == "k"))
        return Tick(unit, 0.0)

    def put(self, kinds: str, **members) -> None:
        for kind in kinds:
            self.backlog.put(self.tick(kind, **members))

    def pictures(self) -> list[int]:
        found = []
        while (taken := self.backlog.video()) is not None:
            found.append(taken[0].unit.seq)
        return found

    def sounds(self) -> list[int]:
        found = []
        while (taken := self.backlog.audio()) is not None:
            found.append(taken[0].unit.seq)
        return found


def test_what_is_taken_in_time_comes_out_as_it_came():
    rig = Rig()
    rig.put("kdd")
    assert rig.pictures() == [1, 2, 3]
    assert rig.sounds() == [1, 2, 3]
    assert rig.fates == [(1, "sent"), (2, "sent"), (3, "sent")]
    assert len(rig.backlog) == 0


def test_a_new_viewer_gets_sound_at_once_and_pictures_from_a_keyframe_on():
    rig = Rig()
    rig.put("dd")
    assert rig.backlog.waits
    assert rig.pictures() == []
    rig.put("k")
    assert (rig.pictures(), rig.sounds()) == ([3], [1, 2, 3])


def test_sound_that_is_too_old_is_left_out_and_its_picture_is_not():
    rig = Rig()
    rig.backlog.put(rig.tick("k"), sound=False)
    rig.put("d")
    assert (rig.pictures(), rig.sounds()) == ([1, 2], [2])
    assert rig.fates == [(1, "sent"), (2, "sent")]


def test_an_overflow_drops_the_oldest_and_all_pictures_to_the_next_keyframe():
    rig = Rig()
    rig.put("k")
    assert rig.pictures() == [1]
    assert rig.sounds() == [1]
    rig.put("dddd")
    assert rig.asked >= 1
    assert rig.pictures() == []
    assert rig.sounds() == [3, 4, 5]
    rig.put("dk")
    assert rig.pictures() == [7]
    assert Counter(fate for _, fate in rig.fates)["overflow"] == 1


def test_a_keyframe_is_not_dropped_while_nothing_newer_replaces_it():
    rig = Rig()
    rig.put("kddddd")
    assert rig.pictures() == [1]
    assert rig.asked >= 1
    rig = Rig()
    rig.put("kdkd")
    assert rig.pictures() == [3, 4]
    assert rig.asked == 0, "the newer keyframe is there already"


def test_an_interruption_drops_speech_of_before_and_nothing_else():
    rig = Rig()
    rig.backlog.put(rig.tick("k"))
    rig.backlog.put(rig.tick("d", speaking=True))
    rig.backlog.put(rig.tick("d", epoch=2, speaking=True))
    rig.backlog.interrupt(2)
    assert rig.sounds() == [1, 3]
    assert rig.pictures() == [1], "what follows a picture that is gone cannot be decoded"
    assert rig.asked >= 1
    assert (2, "epoch") in rig.fates


def test_late_units_of_an_old_epoch_are_skipped_and_a_keyframe_is_asked_for():
    rig = Rig()
    rig.put("k")
    rig.pictures()
    rig.sounds()
    rig.backlog.skip(rig.tick("d", speaking=True))
    rig.backlog.skip(rig.tick("d", speaking=True))
    assert rig.asked == 1
    rig.put("d")
    assert rig.pictures() == []
    assert rig.asked == 2, "it is asked for again while it does not come"


def test_every_unit_has_one_fate():
    rig = Rig()
    for kinds in ("kdd", "ddd", "k-d", "kkk", "d-d"):
        rig.put(kinds)
        rig.backlog.audio()
        rig.backlog.video()
    rig.backlog.interrupt(5)
    rig.backlog.clear()
    assert sorted(seq for seq, _ in rig.fates) == list(range(1, rig.seq + 1))


def test_a_viewer_without_pictures_or_sound_of_its_own_holds_nothing():
    rig = Rig(codec=None, audio=False)
    rig.put("kdd")
    assert len(rig.backlog) == 0
    assert [fate for _, fate in rig.fates] == ["sent"] * 3
    rig = Rig(codec=pb.VP8, audio=False)
    rig.put("kd")
    assert len(rig.backlog) == 0
