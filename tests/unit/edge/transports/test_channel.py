from __future__ import annotations

import asyncio
import contextlib

import pytest

from edge.transports.channel import ChannelOutlet
from tests.unit.edge.scripted import DEADLINE_S, turning
from tests.unit.edge.transports.asgi import Asgi

pytestmark = pytest.mark.anyio


class Pumped:
    def __init__(self, high_bytes: int = 100) -> None:
        self.asgi = Asgi()
        self.outlet = ChannelOutlet(high_bytes)
        self.calls: list[str] = []
        self.outlet.on_pause = lambda: self.calls.append("pause")
        self.outlet.on_resume = lambda: self.calls.append("resume")
        self.task = asyncio.ensure_future(self.outlet.pump(self.asgi.send))

    async def done(self) -> None:
        await asyncio.wait_for(self.task, DEADLINE_S)


async def test_what_is_written_together_is_sent_together() -> None:
    pumped = Pumped()
    assert pumped.outlet.write(b"a")
    assert pumped.outlet.write(b"b")
    await pumped.asgi.news.until(lambda: pumped.asgi.sent)
    pumped.outlet.write(b"c")
    await turning(lambda: pumped.outlet.unsent_bytes == 0)
    pumped.outlet.finish()
    await pumped.done()
    assert pumped.asgi.bodies == [b"ab", b"c"]
    assert all(message["more_body"] for message in pumped.asgi.sent)
    assert pumped.outlet.unsent_bytes == 0


async def test_a_last_write_and_the_finish_may_come_in_one_turn() -> None:
    pumped = Pumped()
    pumped.outlet.write(b"a")
    pumped.outlet.finish()
    await pumped.done()
    assert pumped.asgi.bodies == [b"a"]


async def test_nothing_is_lost_between_the_last_write_and_finish() -> None:
    pumped = Pumped()
    for number in range(50):
        pumped.outlet.write(b"%d," % number)
        await asyncio.sleep(0)
    pumped.outlet.finish()
    await pumped.done()
    assert pumped.asgi.body == b"".join(b"%d," % number for number in range(50))


async def test_a_slow_server_pauses_and_resumes_once_each() -> None:
    pumped = Pumped(high_bytes=10)
    pumped.asgi.stick()
    assert pumped.outlet.write(b"x" * 10)
    assert not pumped.outlet.write(b"y")
    assert not pumped.outlet.write(b"z")
    assert (pumped.calls, pumped.outlet.unsent_bytes) == (["pause"], 12)
    pumped.asgi.unstick()
    await turning(lambda: pumped.outlet.unsent_bytes == 0)
    assert pumped.calls == ["pause", "resume"]
    assert pumped.outlet.write(b"more")
    await turning(lambda: pumped.outlet.unsent_bytes == 0)
    pumped.outlet.finish()
    await pumped.done()
    assert pumped.asgi.body == b"x" * 10 + b"yzmore"


async def test_what_is_on_its_way_counts_as_unsent() -> None:
    pumped = Pumped()
    pumped.asgi.stick()
    pumped.outlet.write(b"abc")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pumped.outlet.unsent_bytes == 3
    pumped.asgi.unstick()
    pumped.outlet.finish()
    await pumped.done()


async def test_an_abort_drops_what_is_held_and_takes_no_more() -> None:
    pumped = Pumped()
    pumped.outlet.write(b"a")
    pumped.outlet.abort()
    pumped.outlet.write(b"b")
    await pumped.done()
    assert (pumped.asgi.sent, pumped.outlet.unsent_bytes) == ([], 0)


async def test_a_disconnect_is_told_once_and_the_watch_ends_with_its_block() -> None:
    asgi, outlet, told = Asgi({"type": "http.request", "body": b""}), ChannelOutlet(10), []
    outlet.on_disconnect = lambda: told.append("gone")
    async with outlet.watching(asgi.receive):
        asgi.leave()
        await turning(lambda: told)
    assert told == ["gone"]
    quiet = Asgi()
    with contextlib.suppress(TimeoutError):
        async with outlet.watching(quiet.receive):
            await asyncio.sleep(0)
    assert told == ["gone"]
