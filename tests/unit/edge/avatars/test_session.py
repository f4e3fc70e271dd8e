"""A session towards its compositor: what it acknowledges, asks for and says, whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import pytest

from edge.avatars import session as module
from edge.avatars.place import Places
from edge.avatars.session import Session
from edge.avatars.tick import Tick
from edge.avatars.viewer import Viewer
from edge.streams.kept import Owner
from streamkit.wire.errors import HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

pytestmark = pytest.mark.anyio


class Call:
    """Notes what is sent."""

    opened = pb.Opened(window=3, fps=25, codecs=[pb.H264, pb.VP8], bitrate_bps=800_000)

    def __init__(self) -> None:
        self.sent: list[pb.SessionRequest] = []
        self.acked = 0
        self.over = False

    def send(self, request: pb.SessionRequest) -> None:
        self.sent.append(request)

    def ack(self, seq: int) -> None:
        self.acked = max(self.acked, seq)

    def cancel(self) -> None:
        self.over = True

    def of(self, kind: str) -> list:
        return [getattr(one, kind) for one in self.sent if one.WhichOneof("request") == kind]


class Rig:
    def __init__(self) -> None:
        self.call = Call()
        self.empty = 0
        self.fates: list[str] = []
        self.session = Session(
            "ha-x", "anna", Owner("t", "k"), self.call, request_id="r", codecs=(pb.H264,), speech_bytes=1_000,
            count=self.fates.append, on_keyframe=lambda: None, on_empty=self.left,
        )  # fmt: skip
        self.seq = 0
        self.places = Places(1.0)

    def left(self, _session: Session) -> None:
        self.empty += 1

    def viewer(self, codec: int = pb.H264, *, reached: bool = True, **members) -> Viewer:
        viewer = Viewer(f"hv-{len(self.session.viewers)}", self.session, "t", codec, audio=True)
        viewer.heard_by = []
        viewer.on_tell = viewer.heard_by.append
        self.session.attach(viewer, **members)
        self.places.sit(viewer, None)
        viewer.welcome()
        if reached:
            viewer.reached()
        return viewer

    def unit(self, *, key: bool = False, speaking: bool = False, epoch: int = 1, marks: tuple = ()) -> None:
        self.seq += 1
        unit = pb.Unit(
            seq=self.seq, epoch=epoch, speaking=speaking, audio=[pb.Audio(data=b"a")], marks=list(marks),
            video=[pb.Video(codec=pb.H264, data=b"v", keyframe=key)],
        )  # fmt: skip
        self.session._take(Tick(unit, monotonic()))


def drained(viewer: Viewer) -> tuple[int, int]:
    def count(take: Callable[[], object]) -> int:
        found = 0
        while take() is not None:
            found += 1
        return found

    return count(viewer.backlog.video), count(viewer.backlog.audio)


@pytest.fixture
def rig(anyio_backend):
    return Rig


async def test_nothing_is_acknowledged_while_nobody_can_take_it(rig):
    ours = rig()
    viewer = ours.viewer(reached=False)
    for number in range(3):
        ours.unit(key=not number)
    assert ours.call.acked == 0
    viewer.reached()
    assert drained(viewer) == (3, 0), "old pictures are what the next build on; old sound is left out"
    assert ours.call.acked == 3
    ours.unit()
    assert drained(viewer) == (1, 1)
    assert ours.call.of("keyframe") == []


async def test_an_unwatched_session_takes_a_unit_now_and_then(rig, monkeypatch):
    ours = rig()
    ours.unit(key=True)
    ours.unit()
    ours.session.breathe()
    assert ours.call.acked == 0
    monkeypatch.setattr(module, "_BREATH_S", -1.0)
    ours.session.breathe()
    assert ours.call.acked == 1
    assert ours.fates == ["stale"]


async def test_codecs_follow_who_watches_and_a_newcomer_asks_for_a_keyframe(rig):
    ours = rig()
    first = ours.viewer()
    ours.unit(key=True)
    second = ours.viewer(pb.VP8)
    assert [list(one.codecs) for one in ours.call.of("codecs")] == [[pb.H264, pb.VP8]]
    assert [one.codec for one in ours.call.of("keyframe")] == [pb.VP8]
    first.close()
    assert [list(one.codecs) for one in ours.call.of("codecs")][-1] == [pb.VP8]
    second.close()
    assert ours.empty == 1


async def test_keyframes_that_are_asked_for_at_once_become_two_at_most(rig, monkeypatch):
    monkeypatch.setattr(module, "_KEYFRAME_S", 0.05)
    ours = rig()
    for _ in range(20):
        ours.session.keyframe(pb.H264)
    assert len(ours.call.of("keyframe")) == 1
    await asyncio.sleep(0.1)
    assert len(ours.call.of("keyframe")) == 2
    ours.session.end()


async def test_the_first_viewer_s_bandwidth_rules(rig, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    ours = rig()
    first, second = ours.viewer(), ours.viewer()

    def told(viewer: Viewer, *estimates: int) -> None:
        for estimate in estimates:
            now[0] += 1.0
            viewer.bandwidth.sent(100_000, now[0])
            ours.session.estimated(viewer, estimate)

    now[0] = monotonic() + 5.0
    told(second, 500_000, 400_000)
    assert ours.call.of("bitrate") == [], "he is the second"
    told(first, 900_000, 600_000, 620_000, 700_000)
    assert [one.bitrate_bps for one in ours.call.of("bitrate")] == [600_000, 700_000]
    told(first, 900_000)
    assert ours.call.of("bitrate")[-1].bitrate_bps == 800_000, "no more than is wanted"
    first.close()
    assert ours.call.of("bitrate")[-1].bitrate_bps == 400_000, "it is the other one's now"
    ours.viewer(pb.VP8, first=True)
    assert len(ours.call.of("bitrate")) == 4, "a codec that is new is encoded as wanted"


async def test_an_interruption_reaches_everybody_and_late_speech_is_dropped(rig):
    ours = rig()
    viewer = ours.viewer()
    ours.unit(key=True)
    drained(viewer)
    ours.session.speech.say(["One.", "Two."], "s")
    assert [one.text for one in ours.call.of("say")] == ["One.", "Two."]
    started = pb.Mark(kind=pb.Mark.STARTED, speech=1, epoch=1)
    finished = pb.Mark(kind=pb.Mark.FINISHED, speech=1, epoch=1, interrupted=True, position_ms=120)
    ours.session.interrupt()
    assert [one.epoch for one in ours.call.of("interrupt")] == [2]
    ours.unit(speaking=True, epoch=1, marks=(started, finished))
    assert drained(viewer) == (0, 0)
    told = [message for message in viewer.heard_by if b"playback" in message]
    assert len(told) == 1, "what nobody heard has not begun"
    assert b'"position_ms":80' in told[0], "the unit that was dropped here was not heard"
    ours.session.speech.say(["Three."], "s")
    assert ours.call.of("say")[-1].epoch == 2
    assert ours.session.speech.pending == 1
    ours.session.end()


async def test_text_waits_at_the_edge_beyond_a_few_sentences_and_is_bounded(rig):
    ours = rig()
    ours.viewer()
    ours.session.speech.say([f"Sentence {number}." for number in range(10)], "")
    assert len(ours.call.of("say")) == 6
    with pytest.raises(HeadraceError, match="speech_bytes = 1000"):
        ours.session.speech.say(["x" * 990], "")
    ours.unit(key=True, marks=(pb.Mark(kind=pb.Mark.FINISHED, speech=1, epoch=1),))
    assert len(ours.call.of("say")) == 7
    ours.session._failed(pb.Failed(code="saturated", message="full", speech=2))
    assert len(ours.call.of("say")) == 8


async def test_the_end_closes_viewers_with_the_reason(rig):
    ours = rig()
    viewer = ours.viewer()
    closed: list = []
    viewer.on_close = closed.append
    ours.session.error = HeadraceError(module.Code.BACKEND_ERROR, "gone")
    ours.session.end()
    ours.session.end()
    assert closed == [ours.session.error]
    assert ours.call.over
    assert ours.session.viewers == []
    assert ours.empty == 0, "it has ended: nobody is waited for"
