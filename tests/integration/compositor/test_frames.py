"""Pictures without a session: every file of an utterance, as PNG without loss or as JPEG."""

from __future__ import annotations

import asyncio

import av
import msgspec
import pytest

from compositor.settings import AvatarSettings
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.compositor import SMALL, compositor, until


def luma(image: bytes, codec: str):
    (frame,) = av.CodecContext.create(codec, "r").decode(av.Packet(image))
    assert (frame.width, frame.height) == (256, 256)
    return frame.to_ndarray(format="gray").astype(int)


async def frames(door, **fields) -> list[pb.RenderedFrame]:
    request = pb.RenderFramesRequest(avatar="small", **fields)
    return [frame async for frame in door.stub.RenderFrames(request)]


def test_frames_of_a_text_of_sound_and_of_the_idle_loop(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door:
            spoken = await frames(door, text="a" * 11, image=pb.JPG, quality=80)
            assert [frame.index for frame in spoken] == list(range(11))
            assert [frame.pts for frame in spoken] == [index * 3_600 for index in range(11)]
            # Odd ticks are louder, so their mouths are open wider.
            dark = [luma(frame.image, "mjpeg")[146:158, 124:132].mean() for frame in spoken]
            assert all(dark[at] > dark[at + 1] + 3 for at in range(0, 10, 2))
            assert all(frame.compose_ms > 0 and frame.encode_ms > 0 for frame in spoken)
            idle = await frames(door, max_frames=3)
            assert [luma(frame.image, "png")[150, 128] > dark[1] for frame in idle] == [True] * 3
            short = await frames(door, pcm=bytes(2 * 8_000), sample_rate=8_000, channels=1, image=pb.JPG)
            assert len(short) == 25

    asyncio.run(scenario())


@pytest.mark.slow
def test_frames_of_more_sound_than_may_wait_at_a_time(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door:
            heard = await frames(door, pcm=bytes(12 * 16_000), sample_rate=8_000, channels=1, image=pb.JPG)
            assert len(heard) == 300

    asyncio.run(scenario())


def test_a_caller_that_leaves_early_leaves_nothing(mouths):
    async def scenario() -> None:
        async with compositor(mouths, max_renders=1) as door:
            call = door.stub.RenderFrames(pb.RenderFramesRequest(avatar="small", text="a" * 300, image=pb.JPG))
            await call.read()
            other = door.stub.RenderFrames(pb.RenderFramesRequest(avatar="small", max_frames=1))
            assert (await other.code()).name == "RESOURCE_EXHAUSTED"
            assert "1 calls for pictures are answered (max_renders)" in await other.details()
            call.cancel()
            await door.quiet()
            assert len(await frames(door, max_frames=1)) == 1

    asyncio.run(scenario())


def test_what_is_preloaded_waits_for_nobody(mouths):
    async def scenario() -> None:
        avatars = (msgspec.structs.replace(SMALL, preload=True), AvatarSettings(id="later", width=64, height=64))
        async with compositor(mouths, avatars=avatars) as door:
            door.studio.start()
            await until(lambda: len(door.studio.loops.kept) == 3, "its three loops")
            await door.warm()
            assert len(door.studio.gallery.scenes) == 1
            async with door.session(pb.H264) as caller:
                await caller.shown(3)
                # From the first unit on it follows the loop: nothing was encoded for it.
                assert not any(unit.timing.encode_us for unit in caller.units)

    asyncio.run(scenario())
