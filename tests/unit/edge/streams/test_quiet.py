from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from edge.streams.quiet import Quiet
from tests.support.timing import MS
from tests.unit.edge.scripted import DEADLINE_S

pytestmark = pytest.mark.anyio
#: What a loop's own clock may be off by.
GRAIN_S = 0.002


class Bell:
    """Counts rings and lets a test wait for one."""

    def __init__(self) -> None:
        self.rings: list[float] = []
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self.rings.append(monotonic())
        self._rung.set()

    async def rung(self) -> float:
        await asyncio.wait_for(self._rung.wait(), DEADLINE_S)
        self._rung.clear()
        return self.rings[-1]


async def test_it_fires_after_the_silence() -> None:
    bell, began = Bell(), monotonic()
    quiet = Quiet(asyncio.get_running_loop(), 20 * MS, bell.ring)
    assert await bell.rung() >= began + 20 * MS - GRAIN_S
    quiet.stop()


async def test_signs_of_life_put_it_off_without_touching_a_timer() -> None:
    bell, loop = Bell(), asyncio.get_running_loop()
    quiet = Quiet(loop, 30 * MS, bell.ring)
    signs = 0

    def live() -> None:
        nonlocal signs
        quiet.last = monotonic()
        signs += 1
        if signs < 12:
            loop.call_later(5 * MS, live)

    live()
    rung = await bell.rung()
    assert rung >= quiet.last + 30 * MS - GRAIN_S
    assert signs == 12
    assert len(bell.rings) == 1
    quiet.stop()


async def test_it_fires_once_for_each_silence() -> None:
    bell, other = Bell(), Bell()
    loop = asyncio.get_running_loop()
    quiet = Quiet(loop, 5 * MS, bell.ring)
    await bell.rung()
    later = Quiet(loop, 30 * MS, other.ring)
    await other.rung()
    assert len(bell.rings) == 1
    began = monotonic()
    quiet.restart()
    assert await bell.rung() >= began + 5 * MS - GRAIN_S
    quiet.stop()
    later.stop()


async def test_restart_takes_another_length() -> None:
    bell = Bell()
    quiet = Quiet(asyncio.get_running_loop(), 3600, bell.ring)
    began = monotonic()
    quiet.restart(10 * MS)
    assert quiet.silence_s == 10 * MS
    assert await bell.rung() >= began + 10 * MS - GRAIN_S
    quiet.restart(3600)
    quiet.stop()


async def test_after_stop_it_never_fires_and_cannot_be_restarted() -> None:
    bell, other = Bell(), Bell()
    loop = asyncio.get_running_loop()
    quiet = Quiet(loop, 5 * MS, bell.ring)
    quiet.stop()
    quiet.restart()
    quiet.stop()
    later = Quiet(loop, 40 * MS, other.ring)
    await other.rung()
    assert not bell.rings
    later.stop()


async def test_it_may_be_stopped_from_what_it_calls() -> None:
    rung = asyncio.Event()

    def fire() -> None:
        quiet.stop()
        rung.set()

    quiet = Quiet(asyncio.get_running_loop(), MS, fire)
    await asyncio.wait_for(rung.wait(), DEADLINE_S)
