"""An hour of speech on a clock that does not wait: sound and lips stay together, and both stay with the clock."""

from __future__ import annotations

import asyncio
import random

import pytest

from compositor.picture.paste import MOUTH_BYTES
from streamkit.wire.pb import compositor_pb2 as pb
from tests.support.compositor import TONE, compositor

TICKS = 25 * 60 * 60


class Hurried:
    """A clock that is wherever one waits for it to be: mostly a little late, sometimes by several ticks."""

    def __init__(self) -> None:
        self._now_s = 1_000.0
        self._random = random.Random(4)

    def now(self) -> float:
        return self._now_s

    async def until(self, at_s: float) -> None:
        late_s = (
            self._random.expovariate(1 / 0.002) if self._random.random() < 0.995 else self._random.uniform(0.05, 0.25)
        )
        self._now_s = max(self._now_s, at_s) + late_s
        for _ in range(4):  # voice, feeder and caller have their turns
            await asyncio.sleep(0)


class Prompt:
    """Stands for an inference server that answers at once: the clock here is not the machine's."""

    def __init__(self, scene) -> None:
        self._mouth = bytes(MOUTH_BYTES)

    async def ask(self, wanted):
        return [self._mouth for _ in wanted]

    def cancel(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_hour_of_speech_drifts_by_less_than_a_tick():
    async def scenario() -> None:
        pace = Hurried()
        async with compositor(pace=pace, window=16, ack_timeout_ms=3_600_000) as door:
            door.studio.mouths = Prompt
            more: asyncio.Queue[pb.SessionRequest] = asyncio.Queue()

            async def requests():
                while True:
                    yield await more.get()

            async with door.studio.session(pb.Open(avatar="small")) as (session, _):
                # Texts are short; their limit is the door's, so an hour is many of them.
                for number in range(1, 25):
                    more.put_nowait(pb.SessionRequest(say=pb.Say(epoch=1, speech=number, text="a" * (TICKS // 24))))
                begun_s = pace.now()
                heard: list[tuple[int, int]] = []
                ended = False
                async for reply in session.replies(requests()):
                    assert not reply.HasField("failed"), reply.failed
                    unit = reply.unit
                    more.put_nowait(pb.SessionRequest(ack=pb.Ack(seq=unit.seq)))
                    sent_s = pace.now() - begun_s
                    assert abs(unit.audio[0].pts / 48_000 - unit.pts / 90_000) < 1e-9
                    # The newest unit is never ahead of the clock, and behind it by what its wake-up was late.
                    assert -0.001 <= sent_s - unit.pts / 90_000 < 0.5
                    if unit.speaking:
                        heard.append((unit.pts, int(unit.audio[0].data.removeprefix(TONE).split(b".")[0])))
                    if any(mark.kind == pb.Mark.FINISHED and mark.speech == 24 for mark in unit.marks):
                        ended = True
                        break
            assert ended
            # Every tick of sound was sent once, in order.
            assert [number for _, number in heard] == [tick for _ in range(24) for tick in range(TICKS // 24)]
            first, last = heard[0][0], heard[-1][0]
            drift_s = (last - first) / 90_000 - (len(heard) - 1) * 0.04
            assert abs(drift_s) < 0.04

    asyncio.run(scenario())
