"""Bad input through the gRPC door: each is refused by its field and limit, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import av
import numpy as np
import pytest
from grpc import aio

from compositor.encode.png import png
from compositor.settings import AvatarSettings
from streamkit.ops import catalog
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.compositor import SMALL, compositor, until

OPEN = {"avatar": "small"}
PATHS = "expected 1 to 64 letters"


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"avatar": "nobody"}, "NOT_FOUND", "avatar: there is none of that name; see ListAvatars"),
        ({"avatar": ""}, "INVALID_ARGUMENT", f"avatar: {PATHS}"),
        ({"avatar": "../small"}, "INVALID_ARGUMENT", f"avatar: {PATHS}"),
        ({"tenant": "../other"}, "INVALID_ARGUMENT", f"tenant: {PATHS}"),
        ({"background": "../../etc/passwd"}, "INVALID_ARGUMENT", f"background: {PATHS}"),
        ({"background": "no-such"}, "NOT_FOUND", "background: no no-such here"),
        ({"background": "link"}, "PERMISSION_DENIED", "background: lies outside of its folder"),
        ({"background": "theirs", "tenant": "acme"}, "NOT_FOUND", "background: no theirs here"),
        ({"background": "cut"}, "INVALID_ARGUMENT", "background: cut.png: cut off: its end is missing"),
        ({"background": "huge"}, "OUT_OF_RANGE", "expected at most 1000000 pixels (max_pixels), got 60000 x 60000"),
        ({"voice": "nobody"}, "INVALID_ARGUMENT", "voice: expected one of tone"),
        ({"codecs": [pb.NONE]}, "INVALID_ARGUMENT", "codecs: expected of h264, vp8, mjpeg, got 0"),
        ({"codecs": [99]}, "INVALID_ARGUMENT", "codecs: expected of h264, vp8, mjpeg, got 99"),
        ({"codecs": [pb.VP9]}, "INVALID_ARGUMENT", "codecs: expected of h264, vp8, mjpeg, got vp9"),
        ({"codecs": [pb.VP8, pb.VP8]}, "INVALID_ARGUMENT", "codecs: expected each once"),
        ({"codecs": [pb.VP8] * 100_000}, "INVALID_ARGUMENT", "codecs: expected at most 4, got 100000"),
        ({"request_id": "x" * 129}, "INVALID_ARGUMENT", "request_id: expected at most 128"),
        ({"avatar": "broken"}, "NOT_FOUND", "template: no such file or folder: nothing"),
        ({"avatar": "escaping"}, "PERMISSION_DENIED", "template: lies outside of its folder"),
    ],
)
def test_a_session_that_cannot_open_says_why(roots, fields, status, words):
    async def scenario() -> None:
        async with compositor(**roots) as door:
            error = await door.refused([pb.SessionRequest(open=pb.Open(**{**OPEN, **fields}))])
            assert (error.code().name, words in error.details()) == (status, True), error.details()

    asyncio.run(scenario())


def test_a_session_begins_with_open_and_soon():
    async def scenario() -> None:
        async with compositor(open_timeout_ms=100) as door:
            error = await door.refused([pb.SessionRequest(say=pb.Say(epoch=1, speech=1, text="a"))])
            assert "open: expected as the first request" in error.details()
            assert "open: expected as the first" in (await door.refused([])).details()
            call = door.stub.Session()
            assert (await call.code()).name == "DEADLINE_EXCEEDED"
            assert "open: expected within 0.1 s (open_timeout_ms)" in await call.details()

    asyncio.run(scenario())


SOUND = {"epoch": 1, "speech": 50, "pcm": b"\0\0" * 160, "sample_rate": 16_000, "channels": 1}
BAD = [
    ({"say": pb.Say(epoch=1, speech=0, text="a")}, "speech: expected a number above 0"),
    ({"say": pb.Say(epoch=1, speech=9, text="")}, "text: expected something to say"),
    ({"say": pb.Say(epoch=1, speech=9, text=" \n")}, "text: expected something to say"),
    ({"say": pb.Say(epoch=1, speech=9, text="a" * 4_001)}, "text: expected at most 4000 characters, got 4001"),
    (
        {"say": pb.Say(epoch=1, speech=1, text="a")},
        "speech: numbers rise within a session: expected more than 1, got 1",
    ),
    ({"sound": pb.Sound(**{**SOUND, "pcm": b"123"})}, "pcm: expected whole samples of 2 bytes, got 3 bytes"),
    ({"sound": pb.Sound(**{**SOUND, "pcm": b"12", "channels": 2})}, "pcm: expected whole samples of 4 bytes"),
    (
        {"sound": pb.Sound(**{**SOUND, "pcm": bytes(32_002)})},
        "pcm: expected at most 1 s (32000 bytes), got 32002 bytes",
    ),
    ({"sound": pb.Sound(**{**SOUND, "sample_rate": 0})}, "sample_rate: expected 8000 to 48000, got 0"),
    ({"sound": pb.Sound(**{**SOUND, "sample_rate": 96_000})}, "sample_rate: expected 8000 to 48000, got 96000"),
    ({"sound": pb.Sound(**{**SOUND, "channels": 3})}, "channels: expected 1 or 2, got 3"),
    ({"sound": pb.Sound(**{**SOUND, "speech": 0})}, "speech: expected a number above 0"),
    ({"ack": pb.Ack(seq=10**9)}, "seq: expected at most"),
    ({"keyframe": pb.Keyframe(codec=pb.VP8)}, "codec: expected of h264, got vp8"),
    ({"keyframe": pb.Keyframe(codec=77)}, "codec: expected of h264, got 77"),
    ({"bitrate": pb.Bitrate(codec=pb.VP9, bitrate_bps=1)}, "codec: expected of h264, vp8, mjpeg, got vp9"),
    ({"bitrate": pb.Bitrate(codec=pb.H264)}, "bitrate_bps: expected a number above 0"),
    ({"codecs": pb.Codecs(codecs=[pb.H264] * 2)}, "codecs: expected each once"),
    ({"codecs": pb.Codecs(codecs=list(range(50)))}, "codecs: expected at most 4, got 50"),
    ({"open": pb.Open(avatar="small")}, "open: expected once, at the beginning"),
    ({}, "request: expected one of its kinds, got none"),
]


def test_a_bad_request_inside_a_session_is_told_and_the_session_goes_on():
    async def scenario() -> None:
        async with compositor() as door, door.session(pb.H264) as caller:
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a"))
            await caller.marked(pb.Mark.FINISHED, 1)
            for number, (request, words) in enumerate(BAD, start=1):
                await caller.send(**request)
                await until(lambda wanted=number: len(caller.failed) == wanted, words)
                assert words in caller.failed[-1].message
                assert caller.failed[-1].code == "invalid_request"
            await caller.send(sound=pb.Sound(**{**SOUND, "end": True}))
            await caller.marked(pb.Mark.FINISHED, 50)
            # Another rate in the middle, a piece of what was a text.
            await caller.send(sound=pb.Sound(**{**SOUND, "speech": 60}))
            await caller.send(sound=pb.Sound(**{**SOUND, "speech": 60, "sample_rate": 48_000}))
            await until(lambda: len(caller.failed) == len(BAD) + 1, "the rate")
            assert "expected 16000 Hz and 1 channels as at its beginning" in caller.failed[-1].message

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_flood_of_bad_requests_that_nobody_reads_ends_the_session():
    async def scenario() -> None:
        async with compositor(max_speeches=2) as door:
            call = door.stub.Session()
            await call.write(pb.SessionRequest(open=pb.Open(avatar="small")))
            big = pb.SessionRequest(say=pb.Say(epoch=1, speech=1, text=" " * 4_000))
            with contextlib.suppress(asyncio.InvalidStateError, aio.AioRpcError):
                while not call.done():
                    await call.write(big)
            # What the caller gets to see is gRPC's choice: it was writing when it was cut.
            await until(lambda: door.metrics.value(catalog.COMPOSITOR_REFUSED, "slow_reader") == 1, "it is cut")

    asyncio.run(scenario())


FRAMES = {"avatar": "small", "max_frames": 2}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"avatar": "nobody"}, "NOT_FOUND", "avatar: there is none of that name"),
        ({"avatar": "a/b"}, "INVALID_ARGUMENT", f"avatar: {PATHS}"),
        ({"background": "cut"}, "INVALID_ARGUMENT", "cut.png: cut off"),
        ({"image": 5}, "INVALID_ARGUMENT", "image: expected PNG or JPG"),
        ({"quality": 101}, "INVALID_ARGUMENT", "quality: expected 1 to 100, or 0 for 90, got 101"),
        ({"max_frames": 0}, "INVALID_ARGUMENT", "max_frames: expected a number above 0: the idle loop has no end"),
        ({"max_frames": 2**31}, "INVALID_ARGUMENT", "max_frames: expected at most 100000"),
        ({"text": "a" * 4_001}, "INVALID_ARGUMENT", "text: expected at most 4000 characters, got 4001"),
        ({"text": "a", "pcm": b"\0\0"}, "INVALID_ARGUMENT", "pcm: expected nothing beside text"),
        ({"pcm": b"\0\0\0", "sample_rate": 8_000, "channels": 1}, "INVALID_ARGUMENT", "pcm: expected whole samples"),
        (
            {"pcm": bytes(960_002), "sample_rate": 8_000, "channels": 1},
            "INVALID_ARGUMENT",
            "pcm: expected at most 60 s",
        ),
        ({"text": "a"}, "UNAVAILABLE", "inference server:"),
    ],
)
def test_frames_that_cannot_be_had(roots, fields, status, words):
    async def scenario() -> None:
        async with compositor(**roots) as door:
            call = door.stub.RenderFrames(pb.RenderFramesRequest(**{**FRAMES, **fields}))
            assert (await call.code()).name == status
            assert words in await call.details()

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("roots")
    folders = [root / "backgrounds" / name for name in ("common", "tenants/acme", "tenants/other")]
    for folder in folders:
        folder.mkdir(parents=True)
    whole = png(np.full((256, 256, 3), 90, np.uint8))
    (folders[0] / "wall.png").write_bytes(whole)
    (folders[0] / "cut.png").write_bytes(whole[:60])
    (folders[2] / "theirs.png").write_bytes(whole)
    (root / "secret.png").write_bytes(whole)
    (folders[0] / "link.png").symlink_to(root / "secret.png")
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (folders[0] / "huge.png").write_bytes(whole[:16] + header + bytes(8) + b"IEND" + bytes(4))
    (root / "avatars").mkdir()
    broken = AvatarSettings(id="broken", template="nothing", crop=(0, 0, 64), width=64, height=64)
    escaping = AvatarSettings(id="escaping", template="../secret.png", crop=(0, 0, 64), width=64, height=64)
    return {
        "avatars": (SMALL, broken, escaping), "backgrounds_root": str(root / "backgrounds"),
        "avatars_root": str(root / "avatars"), "max_pixels": 1_000_000,
    }  # fmt: skip


def test_avatars_that_cannot_be_shown_are_listed_with_the_reason(roots):
    async def scenario() -> None:
        async with compositor(**roots) as door:
            found = {
                avatar.avatar: avatar for avatar in (await door.stub.ListAvatars(pb.ListAvatarsRequest())).avatars
            }
            assert not any(avatar.ready for avatar in found.values())
            assert found["small"].reason == "the inference server does not answer: its mouth would not move"
            assert found["broken"].reason == "template: no such file or folder: nothing"
            assert found["escaping"].reason == "template: lies outside of its folder"
            assert list(found["small"].voices) == ["tone"]
            assert {avatar.voice for avatar in found.values()} == {"tone"}
            assert pb.H264 in found["small"].codecs
            assert found["small"].created > 1_700_000_000
            health = await door.stub.Health(pb.HealthRequest())
            assert (health.healthy, health.inference, health.speech) == (True, False, True)
            assert health.status == "no inference server"

    asyncio.run(scenario())


def test_backgrounds_are_opened_once_and_counted(roots):
    async def scenario() -> None:
        async with compositor(**roots) as door:
            for fields in (
                {"background": "wall"},
                {"background": "wall"},
                {"background": "wall", "tenant": "acme"},
                {},
            ):
                request = pb.RenderFramesRequest(**FRAMES, image=pb.PNG, **fields)
                frames = [frame async for frame in door.stub.RenderFrames(request)]
                (decoded,) = av.CodecContext.create("png", "r").decode(av.Packet(frames[0].image))
                corner = decoded.to_ndarray(format="rgb24")[4, 4]
                assert (abs(int(corner[0]) - 90) <= 2) == bool(fields)
            counted = [door.metrics.value(catalog.COMPOSITOR_BACKGROUNDS, result) for result in ("hit", "miss")]
            assert counted == [2, 2]
            held, frames_bytes = door.metrics.value(catalog.COMPOSITOR_HELD, "frames"), 60 * 256 * 256 * 3 // 2
            assert 0 < held - 2 * frames_bytes < frames_bytes / 10  # and where the mouths go

    asyncio.run(scenario())
