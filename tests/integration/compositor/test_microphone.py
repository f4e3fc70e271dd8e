"""A microphone at a session's door, on a clock that does not wait: how long its sound waits for the face's tick."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from streamkit.wire.pb import compositor_pb2 as pb
from tests.integration.compositor.test_drift import Prompt
from tests.support.compositor import TONE, compositor

RATE = 16_000
PIECE = bytes(2 * RATE // 25)
TICK_S = 0.04


class Talked:
    """A clock that is wherever one waits for it to be, and a microphone that speaks meanwhile."""

    def __init__(self, push: Callable[[pb.SessionRequest], None]) -> None:
        self._now_s = 1_000.0
        self._push = push
        #: When each piece was heard.
        self.heard_s: list[float] = []
        #: When each tick of the face began.
        self.ticks_s: list[float] = []

    def now(self) -> float:
        return self._now_s

    async def until(self, at_s: float) -> None:
        # 25 ms before a tick of a session that begins with the clock.
        while (next_s := 1_000.175 + TICK_S * len(self.heard_s)) <= at_s:
            self._now_s = next_s
            self.heard_s.append(next_s)
            sound = pb.Sound(epoch=1, speech=1, pcm=PIECE, sample_rate=RATE, channels=1)
            self._push(pb.SessionRequest(sound=sound))
            await _turns()
        self._now_s = max(self._now_s, at_s)
        self.ticks_s.append(self._now_s)
        await _turns()


async def _turns() -> None:
    for _ in range(20):  # caller, voice and feeder have theirs
        await asyncio.sleep(0)


def test_the_faces_ticks_move_to_where_its_microphones_sound_is_ready():
    async def scenario() -> None:
        more: asyncio.Queue[pb.SessionRequest] = asyncio.Queue()
        pace = Talked(more.put_nowait)
        async with compositor(pace=pace, window=16) as door:
            door.studio.mouths = Prompt

            async def requests():
                while True:
                    yield await more.get()

            waited_s: list[float] = []
            pts: list[int] = []
            async with door.studio.session(pb.Open(avatar="small")) as (session, _):
                async for reply in session.replies(requests()):
                    assert not reply.HasField("failed"), reply.failed
                    unit = reply.unit
                    more.put_nowait(pb.SessionRequest(ack=pb.Ack(seq=unit.seq)))
                    if not unit.speaking:
                        continue
                    number = int(unit.audio[0].data.removeprefix(TONE).split(b".")[0])
                    assert number == len(waited_s)
                    waited_s.append(pace.ticks_s[unit.seq - 1] - pace.heard_s[number])
                    pts.append(unit.pts)
                    if len(waited_s) == 100:
                        break
        assert 0.020 < waited_s[0] < 0.030
        assert max(waited_s[60:]) < 0.004
        # Nothing was left out or held meanwhile, and the sound's time went on evenly.
        assert {after - before for before, after in itertools.pairwise(pts)} == {3_600}

    asyncio.run(scenario())
