"""A session through the gRPC door: units in step, speech, interrupts, keyframes, codecs, an edge that stalls."""

from __future__ import annotations

import asyncio
import itertools

import av

from compositor.session.posture import SILENCE
from streamkit.ops import catalog
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.compositor import TONE, compositor, until


def decode(units, codec: int = pb.H264, name: str = "h264") -> list:
    decoder = av.CodecContext.create(name, "r")
    decoder.thread_count = 1
    data = [video.data for unit in units for video in unit.video if video.codec == codec]
    return [frame for one in data for frame in decoder.decode(av.Packet(one))] + decoder.decode(None)


def in_step(units) -> None:
    """Assert that units follow each other without a gap, sound and picture at the same time."""
    for before, unit in itertools.pairwise(units):
        assert unit.seq == before.seq + 1
        assert unit.pts - before.pts == 3_600 * (1 + unit.timing.skipped)
    for unit in units:
        assert [packet.pts for packet in unit.audio] == [unit.pts * 48 // 90, unit.pts * 48 // 90 + 960]


def test_a_session_idles_speaks_and_idles_again(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session(pb.H264) as caller:
            opened = caller.opened
            assert (opened.width, opened.height, opened.fps, opened.window) == (256, 256, 25, 3)
            assert (list(opened.codecs), opened.audio_codec) == ([pb.H264, pb.VP8, pb.MJPEG], "opus")
            await caller.shown(3)
            await door.warm()
            assert caller.units[0].video[0].keyframe
            assert all(packet.data == SILENCE.data for packet in caller.units[0].audio)
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 20))
            await caller.send(say=pb.Say(epoch=1, speech=2, text="b" * 10))
            await caller.marked(pb.Mark.FINISHED, 2)
            await caller.shown(30)
            units = caller.units
            in_step(units)
            assert caller.told() == [("STARTED", 1), ("FINISHED", 1), ("STARTED", 2), ("FINISHED", 2)]
            assert [mark.position_ms for mark in caller.marks] == [40, 800, 40, 400]
            spoken = [unit for unit in units if unit.speaking]
            assert len(spoken) == 30
            sounds = [packet.data for unit in spoken for packet in unit.audio]
            assert sounds == [
                TONE + b"%d.%d" % (tick, half) for length in (20, 10) for tick in range(length) for half in range(2)
            ]
            assert {unit.epoch for unit in units} == {0, 1}
            assert all(unit.timing.inference_us for unit in spoken)
            assert all(unit.timing.compose_us and unit.timing.encode_us for unit in spoken if unit.video)
            assert len(decode(units)) == sum(bool(unit.video) for unit in units)
            await until(lambda: not units[-1].timing.encode_us, "it is back on the shared loop")

    asyncio.run(scenario())


def test_the_mouth_moves_while_it_speaks_and_rests_while_it_idles(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session(pb.H264) as caller:
            await caller.shown(2)
            await door.warm()
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 12))
            await caller.marked(pb.Mark.FINISHED, 1)
            await caller.shown(2)
            shown = [unit for unit in caller.units if unit.video]
            frames = [frame.to_ndarray()[:256].astype(int) for frame in decode(shown)]
            # The mouth's middle, in a face of half the size of the model's.
            dark = [frame[146:158, 124:132].mean() for frame in frames]
            idle = [value for value, unit in zip(dark, shown, strict=True) if not unit.speaking]
            spoken = [value for value, unit in zip(dark, shown, strict=True) if unit.speaking]
            assert max(idle) - min(idle) < 6
            assert min(idle) - min(spoken) > 20

    asyncio.run(scenario())


def test_an_interrupt_ends_speech_within_five_ticks_and_frees_its_voice(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session(pb.H264) as caller:
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 400))
            await caller.send(say=pb.Say(epoch=1, speech=2, text="b" * 400))
            await caller.marked(pb.Mark.STARTED, 1)
            await caller.shown(5)
            at = len(caller.units)
            await caller.send(interrupt=pb.Interrupt(epoch=2))
            await caller.send(say=pb.Say(epoch=2, speech=3, text="c" * 3))
            await caller.marked(pb.Mark.FINISHED, 3)
            stale = [unit for unit in caller.units[at:] if unit.epoch < 2]
            assert len(stale) <= 5  # 200 ms
            ended = [mark for mark in caller.marks if mark.kind == pb.Mark.FINISHED]
            assert [(mark.speech, mark.interrupted) for mark in ended] == [(1, True), (2, True), (3, False)]
            heard = sum(unit.speaking and unit.epoch == 1 for unit in caller.units)
            assert (ended[0].position_ms, ended[1].position_ms) == (heard * 40, 0)
            assert door.voices.open == 0
            in_step(caller.units)

    asyncio.run(scenario())


def test_speech_that_breaks_off_stalls_or_cannot_begin_is_marked_and_the_next_is_spoken(mouths):
    async def scenario() -> None:
        async with compositor(mouths, speech_wait_ms=300) as door, door.session() as caller:
            for number, text in enumerate(("aaa!", "?", "bb…", "cc"), start=1):
                await caller.send(say=pb.Say(epoch=1, speech=number, text=text))
            await caller.marked(pb.Mark.FINISHED, 4)
            failed = {mark.speech: mark for mark in caller.marks if mark.kind == pb.Mark.FAILED}
            assert {number: mark.position_ms for number, mark in failed.items()} == {1: 120, 2: 0, 3: 80}
            assert failed[1].message == "the voice broke off"
            assert failed[2].message == "voice: it is not to be had"
            assert "nothing was heard of it for 0.3 s" in failed[3].message
            assert caller.failed == []
            assert not any(unit.video for unit in caller.units)

    asyncio.run(scenario())


def test_sound_in_pieces_drives_the_face(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session(pb.H264) as caller:
            piece = bytes(2 * 16_000 // 5)  # 200 ms
            for number in range(4):
                sound = pb.Sound(epoch=1, speech=7, pcm=piece, sample_rate=16_000, channels=1, end=number == 3)
                await caller.send(sound=sound)
            mark = await caller.marked(pb.Mark.FINISHED, 7)
            assert mark.position_ms == 800
            assert sum(unit.speaking for unit in caller.units) == 20
            # A piece that comes after its end is nothing to complain of; a text in its place is.
            await caller.send(sound=pb.Sound(epoch=1, speech=7, pcm=piece, sample_rate=16_000, channels=1))
            await caller.send(say=pb.Say(epoch=1, speech=7, text="a"))
            await until(lambda: caller.failed, "the number is refused")
            assert "expected more than 7, got 7" in caller.failed[0].message

    asyncio.run(scenario())


def test_codecs_come_and_go_and_keyframes_come_when_asked_but_not_in_a_storm(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session(pb.VP8) as caller:
            await caller.shown(2)
            await door.warm()
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 300))
            await caller.marked(pb.Mark.STARTED, 1)
            await caller.send(codecs=pb.Codecs(codecs=[pb.VP8, pb.H264, pb.MJPEG]))
            await until(lambda: len(caller.units[-1].video) == 3, "three codecs")
            first = next(unit for unit in caller.units if len(unit.video) == 3)
            assert {video.codec for video in first.video if video.keyframe} >= {pb.H264, pb.MJPEG}
            at = len(caller.units)
            for _ in range(15):
                await caller.send(keyframe=pb.Keyframe(codec=pb.H264))
                await caller.shown(1)
            keys = [unit.pts for unit in caller.units[at:] for video in unit.video if _key(video, pb.H264)]
            assert 1 <= len(keys) <= 3
            assert all(after - before >= 27_000 for before, after in itertools.pairwise(keys))  # 300 ms
            await caller.send(codecs=pb.Codecs())
            await until(lambda: not caller.units[-1].video, "no codec")
            await caller.send(codecs=pb.Codecs(codecs=[pb.MJPEG]))
            await until(lambda: caller.units[-1].video, "one codec")
            assert caller.units[-1].video[0].data[:2] == b"\xff\xd8"

    asyncio.run(scenario())


def test_bitrates_change_without_a_keyframe_where_the_codec_can(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session(pb.H264, bitrate_bps=400_000) as caller:
            await door.warm()
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 200))
            await caller.marked(pb.Mark.STARTED, 1)
            await caller.shown(3)
            at = len(caller.units)
            await caller.send(bitrate=pb.Bitrate(codec=pb.NONE, bitrate_bps=150_000))
            await caller.shown(6)
            assert not any(video.keyframe for unit in caller.units[at:] for video in unit.video)
            # Beyond what its buffer was made for it is opened anew; clamped to the server's bounds.
            await caller.send(bitrate=pb.Bitrate(codec=pb.H264, bitrate_bps=400_000_000))
            await until(
                lambda: any(video.keyframe for unit in caller.units[at:] for video in unit.video), "a keyframe"
            )

    asyncio.run(scenario())


def test_with_no_room_no_unit_is_made_speech_waits_and_a_keyframe_follows():
    async def scenario() -> None:
        async with compositor() as door, door.session(pb.H264) as caller:
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 30))
            await caller.marked(pb.Mark.STARTED, 1)
            caller.acks = False
            await until(lambda: door.metrics.value(catalog.COMPOSITOR_LEFT_OUT, "room") > 10, "ticks pass")
            caller.acks = True
            await caller.send(ack=pb.Ack(seq=caller.units[-1].seq))
            await caller.marked(pb.Mark.FINISHED, 1)
            after = max(caller.units, key=lambda unit: unit.timing.skipped)
            # An acknowledgement that was on its way may have let one through in between.
            assert after.timing.skipped >= 5
            # A unit may come without a picture; the first that has one starts afresh.
            pictures = [unit.video[0] for unit in caller.units if unit.seq >= after.seq and unit.video]
            assert pictures[0].keyframe
            sounds = [packet.data for unit in caller.units if unit.speaking for packet in unit.audio]
            assert sounds == [TONE + b"%d.%d" % (tick, half) for tick in range(30) for half in range(2)]
            in_step(caller.units)

    asyncio.run(scenario())


def test_an_edge_that_never_acknowledges_is_cut():
    async def scenario() -> None:
        async with compositor(ack_timeout_ms=300) as door, door.session() as caller:
            caller.acks = False
            await until(lambda: caller.error, "it is cut")
            assert len(caller.units) <= 4
            assert caller.error.code().name == "ABORTED"
            assert "nothing was acknowledged for 0.3 s (ack_timeout_ms)" in caller.error.details()

    asyncio.run(scenario())


def test_too_many_sessions_are_refused_with_advice_and_a_vanished_caller_makes_room():
    async def scenario() -> None:
        async with compositor(max_sessions=2) as door:
            async with door.session(pb.H264), door.session(pb.VP8):
                assert door.gauges()["headrace_compositor_sessions()"] == 2
                error = await door.refused([pb.SessionRequest(open=pb.Open(avatar="small"))])
                assert error.code().name == "RESOURCE_EXHAUSTED"
                assert "2 sessions are open (max_sessions)" in error.details()
                metadata = dict(error.trailing_metadata())
                assert (metadata["headrace-code"], metadata["retry-after-ms"]) == ("saturated", "2000")
            await door.quiet()
            async with door.session(pb.H264) as caller:
                await caller.shown(1)

    asyncio.run(scenario())


def _key(video: pb.Video, codec: int) -> bool:
    return video.codec == codec and video.keyframe
