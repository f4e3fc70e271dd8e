"""The inference server dies in mid-speech, forgets frames, or is away: sound goes on, the face idles, it recovers."""

from __future__ import annotations

import asyncio
import time

import pytest

from streamkit.ops import catalog
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb.inference_pb2 import DropVisualsRequest
from tests.support.compositor import TONE, compositor, until
from tests.support.processes import launch


@pytest.mark.slow
def test_speech_goes_on_as_sound_when_the_server_dies_and_its_mouth_returns_with_it(tmp_path):
    async def scenario() -> None:
        with launch("inference", "--port", "0", "--ops-port", "0", folder=tmp_path, name="first") as first:
            address = str(first.ready()["url"]).removeprefix("grpc://")
            async with (
                compositor(address, inference_retry_ms=100, inference_poll_ms=100) as door,
                door.session(pb.H264) as caller,
            ):
                await door.warm()
                await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 60))
                await until(lambda: any(unit.timing.inference_us for unit in caller.units), "a mouth")
                first.process.kill()
                mark = await caller.marked(pb.Mark.FINISHED, 1)
                assert mark.position_ms == 2_400
                spoken = [unit for unit in caller.units if unit.speaking]
                assert [unit.audio[0].data for unit in spoken] == [TONE + b"%d.0" % tick for tick in range(60)]
                assert spoken[0].timing.inference_us
                assert not spoken[-1].timing.inference_us
                assert not any(mark.kind == pb.Mark.FAILED for mark in caller.marks)
                # Nobody waited long: a hold is bounded by inference_wait_ms.
                pts = [unit.pts for unit in caller.units]
                assert (pts[-1] - pts[0]) / 90_000 < 2.4 + 0.4 + 3
                await until(lambda: not door.studio.link.answers, "it is known to be down")
                assert not (await door.stub.Health(pb.HealthRequest())).inference
                port = address.rsplit(":", 1)[1]
                await asyncio.to_thread(_again, tmp_path, port, scenario_part(door, caller))

    def scenario_part(door, caller):
        loop = asyncio.get_running_loop()

        def run() -> None:
            asyncio.run_coroutine_threadsafe(_recovers(door, caller), loop).result(60)

        return run

    asyncio.run(scenario())


def _again(folder, port: str, then) -> None:
    with launch("inference", "--port", port, "--ops-port", "0", folder=folder, name="second") as second:
        second.ready()
        then()


async def _recovers(door, caller) -> None:
    await until(lambda: door.studio.link.answers, "it is back")
    registered = door.studio.sets.registered
    deadline = time.monotonic() + 20
    number = 2
    while not any(unit.timing.inference_us for unit in caller.units[-20:] if unit.speaking):
        assert time.monotonic() < deadline, "no mouth after it came back"
        await caller.send(say=pb.Say(epoch=1, speech=number, text="b" * 20))
        await caller.marked(pb.Mark.FINISHED, number)
        number += 1
    # The new server never saw the frames: they were registered again.
    assert door.studio.sets.registered > registered


def test_without_a_server_there_is_sound_and_the_session_lives():
    async def scenario() -> None:
        async with compositor() as door, door.session(pb.H264) as caller:
            await caller.send(say=pb.Say(epoch=1, speech=1, text="a" * 10))
            await caller.marked(pb.Mark.FINISHED, 1)
            spoken = [unit for unit in caller.units if unit.speaking]
            assert len(spoken) == 10
            lost = sum(
                door.metrics.value(catalog.COMPOSITOR_MOUTHLESS, code)
                for code in ("no_backend", "backend_error", "backend_timeout")
            )
            assert lost == 10
            # The face is the idle one: the pictures come, or come from the shared loop.
            assert sum(bool(unit.video) for unit in spoken) >= 5

    asyncio.run(scenario())


def test_frames_that_the_server_dropped_are_registered_again(mouths):
    async def scenario() -> None:
        async with compositor(mouths) as door, door.session() as caller:
            await caller.send(say=pb.Say(epoch=1, speech=1, text="aaa"))
            await caller.marked(pb.Mark.FINISHED, 1)
            assert door.studio.sets.registered == 1
            for ref in next(iter(door.studio.sets._refs.values())):
                assert (await door.studio.link.stub.DropVisuals(DropVisualsRequest(visual_ref=ref))).dropped
            await caller.send(say=pb.Say(epoch=1, speech=2, text="bbb"))
            await caller.marked(pb.Mark.FINISHED, 2)
            assert door.studio.sets.registered == 2
            spoken = [unit for unit in caller.units if unit.speaking]
            assert all(unit.timing.inference_us for unit in spoken)

    asyncio.run(scenario())
