"""Slow readers on a socket: credit holds up one stream, a full socket all of its streams, and nothing grows."""

from __future__ import annotations

import asyncio
import socket as sockets

import pytest

from tests.support.inprocess import DONE, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw
from tests.support.timing import MS
from tests.support.websocket import frame, opened, read_frame, request, shaken

pytestmark = pytest.mark.anyio

#: An event of about a kilobyte.
BIG = chunk("x" * 850)
EVENTS = 2_000


async def flood(exchange: ScriptedExchange) -> None:
    """Send two megabytes as fast as they are taken, or one event and then wait, by the request's `user`."""
    await exchange.head()
    for _ in range(EVENTS if exchange.json.get("user") == "flood" else 1):
        await exchange.send(BIG)
    if exchange.json.get("user") == "wait":
        await exchange.closed.wait()
    await exchange.send(finish() + DONE)
    await exchange.end()


async def lockstep(exchange: ScriptedExchange) -> None:
    await exchange.head()
    for number in range(50):
        await exchange.send(chunk(str(number)))
        await asyncio.sleep(0)
    await exchange.send(finish() + DONE)
    await exchange.end()


def size(text: str) -> int:
    return len(text.encode())


async def steady(edge) -> int:
    """Wait until the engine's first stream stands still, and return the bytes that it has sent."""
    seen = -1
    exchange = await edge.engine.asked()
    while seen != exchange.sent_bytes:
        seen = exchange.sent_bytes
        await asyncio.sleep(200 * MS)
    return seen


async def test_a_stream_without_credit_stands_still_and_its_neighbour_flows():
    async with running_edge(flood, upstream_rcvbuf_bytes=8192) as edge, opened(edge.url) as socket:
        await socket.start("slow", request(user="flood"), credit=3_000)
        for _ in range(3):
            await socket.event("slow")
        stopped_at = await steady(edge)
        assert stopped_at < 500_000, "the engine is paused, and little is on the way"
        assert socket.quiet("slow")
        assert edge.metric("headrace_pauses_total") == 1
        # One read of the engine's, at most.
        assert edge.parts.sockets.frames.used_bytes < 64_000
        for name in "abc":
            await socket.start(name, request(user="flood"))
            assert len(await socket.whole(name)) == EVENTS + 3
        assert socket.quiet("slow")
        assert edge.engine.exchanges[0].sent_bytes == stopped_at
        await socket.say("cancel", "slow")
        await socket.whole("slow")
        await edge.quiet()


async def test_credit_that_is_given_back_brings_every_byte():
    async with running_edge(flood, upstream_rcvbuf_bytes=8192) as edge, opened(edge.url) as socket:
        await socket.start("a", request(user="flood"), credit=5_000)
        assert (await socket.next("a"))["type"] == "started"
        credit, taken, seqs = 5_000, 0, []
        while True:
            message = await socket.next("a")
            if message["type"] == "done":
                break
            seqs.append(message["seq"])
            taken += size(socket.texts[-1])
            # The last one may overdraw it.
            assert taken <= credit + 1_100
            if taken >= credit:
                await socket.say("credit", "a", bytes=50_000)
                credit += 50_000
        assert seqs == list(range(1, EVENTS + 2))
        assert message["seq"] == EVENTS + 2
        await edge.quiet()


async def test_a_default_credit_may_be_set_for_all():
    async with running_edge(flood, ws_credit_bytes=2_000) as edge, opened(edge.url) as socket:
        await socket.start("a", request(user="flood"))
        await socket.event("a")
        await socket.event("a")
        await steady(edge)
        assert socket.quiet("a")
        await socket.say("credit", "a", bytes=1 << 30)
        assert (await socket.whole("a"))[-1]["type"] == "done"


async def test_done_and_errors_are_free_but_never_overtake_an_event():
    async with running_edge(lockstep) as edge, opened(edge.url) as socket:
        await socket.start("a", credit=1)
        await socket.event("a")
        # The engine is done, or paused, long before its reader is.
        await asyncio.sleep(50 * MS)
        assert socket.quiet("a")
        await socket.say("credit", "a", bytes=1 << 20)
        rest = await socket.whole("a")
        assert [message["type"] for message in rest] == ["event"] * 50 + ["done"]
        await edge.quiet()


async def test_the_end_of_a_finished_engine_waits_for_credit_and_its_permit_does_not():
    async def quick(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one") + chunk("two") + finish() + DONE)
        await exchange.end()

    async with running_edge(quick) as edge, opened(edge.url) as socket:
        await socket.start("a", credit=1)
        await socket.event("a")
        await until(lambda: not edge.inflight)
        assert edge.parts.sockets.frames.used_bytes
        await socket.say("credit", "a", bytes=10_000)
        assert [message["type"] for message in await socket.whole("a")] == ["event", "event", "done"]
        await edge.quiet()


async def test_an_engine_that_dies_meanwhile_is_told_of_behind_its_events():
    async def mortal(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one") + chunk("two"))
        exchange.cut()

    async with running_edge(mortal) as edge, opened(edge.url) as socket:
        await socket.start("a", credit=1)
        await socket.event("a")
        await socket.say("credit", "a", bytes=10_000)
        assert [message["type"] for message in await socket.whole("a")] == ["event", "error"]
        await edge.quiet()


@pytest.mark.parametrize("ended", [False, True])
async def test_a_stream_that_gets_no_credit_for_too_long_is_cut_alone(ended):
    limit = {"slow_reader_ms": int(300 * MS * 1000)}
    async with running_edge(flood, **limit) as edge, opened(edge.url) as socket:
        await socket.start("other", request(user="wait"))
        await socket.event("other")
        await socket.start("a", request(user="short" if ended else "flood"), credit=1)
        await socket.event("a")
        (error,) = await socket.whole("a")
        assert (error["status"], error["error"]["code"]) == (408, "slow_reader")
        assert "credit" in error["error"]["message"]
        await until(lambda: edge.inflight == 1)
        await socket.start("b")
        assert (await socket.whole("b"))[-1]["type"] == "done"
        assert edge.parts.streams.count == 1


async def test_a_stream_cancelled_while_it_waits_for_credit_gives_all_back():
    async with running_edge(flood) as edge, opened(edge.url) as socket:
        for name, user in (("a", "flood"), ("b", "short")):
            await socket.start(name, request(user=user), credit=1)
            await socket.event(name)
        await until(lambda: edge.parts.sockets.frames.used_bytes)
        for name in "ab":
            await socket.say("cancel", name)
            assert (await socket.whole(name))[-1]["type"] == "cancelled"
        await edge.quiet()


async def test_what_waits_for_credit_is_refused_by_a_full_budget():
    async with running_edge(flood, memory_bytes=16 << 20) as edge, opened(edge.url) as socket:
        other = edge.parts.bodies
        room = (16 << 20) - 1_000
        assert other.reserve(room)
        try:
            await socket.start("b", request(user="flood"), credit=1)
            assert (await socket.event("b"))["seq"] == 1
            (error,) = await socket.whole("b")
            assert (error["status"], error["error"]["code"]) == (503, "out_of_memory")
        finally:
            other.release(room)
        await edge.quiet()


async def paused_socket(client: Raw, count: int) -> None:
    """Open a socket that reads nothing, with so many floods on it."""
    await shaken(client)
    for number in range(count):
        text = '{"type":"start","id":"s%d","operation":"chat","request":{"model":"m","stream":true,"user":"flood"}}'
        await client.send(frame((text % number).encode()))


async def test_a_socket_that_is_not_read_pauses_all_its_engines_and_goes_on_when_it_is():
    streams = 4
    options = {"upstream_rcvbuf_bytes": 8192, "write_high_bytes": 16_384, "notsent_bytes": 4096}
    async with running_edge(flood, **options) as edge, Raw.to(edge.url, rcvbuf_bytes=4096) as client:
        await paused_socket(client, streams)
        await until(lambda: edge.metric("headrace_pauses_total") == streams)
        stood = [await steady(edge) and exchange.sent_bytes for exchange in edge.engine.exchanges]
        assert sum(stood) < 3_000_000 < streams * EVENTS * len(BIG)
        (held,) = edge.parts.sockets.open
        # The mark, and one read of each stream.
        assert held.queued_bytes < 16_384 + streams * 40_000
        done = 0
        while done < streams:
            opcode, data = await read_frame(client)
            assert opcode == 1
            done += data.startswith(b'{"type":"done"')
        await edge.quiet()


async def test_a_socket_that_takes_nothing_for_too_long_is_cut():
    options = {"slow_reader_ms": int(300 * MS * 1000), "write_high_bytes": 16_384, "notsent_bytes": 4096}
    async with running_edge(flood, **options) as edge, Raw.to(edge.url, rcvbuf_bytes=4096) as client:
        await paused_socket(client, 3)
        await until(lambda: edge.metric("headrace_sockets_closed_total", code="4408") == 1)
        await edge.quiet()
        assert await client.gone(), "a reset, so that nothing is taken for whole"


@pytest.mark.parametrize(
    "asked", [frame(b'{"type":"nonsense"}'), frame(b"x" * 100, opcode=9)], ids=["errors", "pongs"]
)
async def test_whoever_asks_and_never_reads_is_cut(asked):
    options = {"write_high_bytes": 16_384, "notsent_bytes": 4096, "ws_messages_per_s": 100_000}
    async with running_edge(flood, **options) as edge, Raw.to(edge.url, rcvbuf_bytes=4096) as client:
        client.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 1 << 20)
        await shaken(client)
        taken = await client.pour(asked * 500, 50 << 20)
        assert taken < 50 << 20
        await until(lambda: edge.metric("headrace_sockets_closed_total", code="4408") == 1)
