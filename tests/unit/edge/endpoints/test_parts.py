from __future__ import annotations

import asyncio

import pytest

from edge.endpoints.parts import OpenStreams
from tests.support.timing import MS, SOON_S
from tests.unit.edge.scripted import turning

pytestmark = pytest.mark.anyio


class Request:
    def __init__(self, streams: OpenStreams, *, ends: bool = True) -> None:
        self.streams, self.ends, self.cuts = streams, ends, 0

    def cut(self) -> None:
        self.cuts += 1
        if self.ends:
            self.streams.closed(self)


async def test_without_streams_a_drain_has_nothing_to_wait_for() -> None:
    await asyncio.wait_for(OpenStreams().idle(), SOON_S)


async def test_a_drain_waits_for_the_last_one() -> None:
    streams = OpenStreams()
    first, second = Request(streams), Request(streams)
    streams.opened(first)
    streams.opened(second)
    waiting = asyncio.ensure_future(streams.idle())
    streams.closed(first)
    streams.closed(first)
    await asyncio.sleep(0)
    assert (streams.count, waiting.done()) == (1, False)
    streams.closed(second)
    await asyncio.wait_for(waiting, SOON_S)
    assert (first.cuts, second.cuts) == (0, 0)


async def test_the_drains_deadline_cuts_those_that_are_left() -> None:
    streams = OpenStreams()
    quick, stuck = Request(streams), Request(streams, ends=False)
    streams.opened(quick)
    streams.opened(stuck)
    waiting = asyncio.ensure_future(streams.idle())
    await asyncio.sleep(0)
    waiting.cancel()
    await turning(lambda: stuck.cuts)
    assert (quick.cuts, stuck.cuts) == (1, 1)
    asyncio.get_running_loop().call_later(5 * MS, streams.closed, stuck)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)
    assert streams.count == 0
