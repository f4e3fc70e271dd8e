"""What stays behind when a connection is over: no timer, no reference, nothing that waits for the collector."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from edge.server import protocol as server
from edge.server.cycle import Cycle
from edge.server.writer import Writer
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post

pytestmark = pytest.mark.anyio

STREAM = {"model": MODEL, "stream": True}


async def engine(exchange: ScriptedExchange) -> None:
    await exchange.head()
    await exchange.send(chunk("one"))
    if "wait" in exchange.json:
        await exchange.closed.wait()
    for event in (finish(), DONE):
        await exchange.send(event)
    await exchange.end()


@pytest.fixture
def made(monkeypatch):
    """Return weak references to every cycle that starts; writers have slots and are watched through them."""
    cycles: list[weakref.ref[Cycle]] = []
    start = server.EdgeProtocol._start_asgi_task

    def noted(self, cycle, app):
        cycles.append(weakref.ref(cycle))
        start(self, cycle, app)

    monkeypatch.setattr(server.EdgeProtocol, "_start_asgi_task", noted)
    return cycles


async def good(client: Raw) -> None:
    assert (await client.ask(post(STREAM))).whole
    client.close()


async def closed_by_us(client: Raw) -> None:
    assert (await client.ask(post(STREAM, headers={"connection": "close"}))).whole
    await client.ended()


async def left_mid_stream(client: Raw) -> None:
    await client.send(post({**STREAM, "wait": True}))
    await client.until(b"one")
    client.reset()


async def left_with_more_behind(client: Raw) -> None:
    await client.send(post({**STREAM, "wait": True}) + post(STREAM) * 3)
    await client.until(b"one")
    await client.send(post(STREAM))
    client.close()


async def left_before_its_body(client: Raw) -> None:
    await client.send(post(headers={"content-length": "10"}))
    client.half_close()
    await client.gone()


async def refused(client: Raw) -> None:
    assert (await client.ask(post(b"{", headers={"content-length": "50"}, path="/nowhere"))).status == 404
    await client.ended()
    client.close()


async def malformed(client: Raw) -> None:
    assert (await client.ask(b"\x00\r\n\r\n")).status == 400
    client.close()


async def silent(client: Raw) -> None:
    client.close()


WAYS = [good, closed_by_us, left_mid_stream, left_with_more_behind, left_before_its_body, refused, malformed, silent]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_closed_connection_is_freed_without_the_collector(way, made):
    async with running_edge(engine) as edge:
        async with Raw.to(edge.url) as client:
            await good(client)  # what a process makes once
        await until(lambda: not edge.connections)
        gc.collect()
        gc.disable()
        try:
            made.clear()
            async with Raw.to(edge.url) as client:
                await until(lambda: edge.connections)
                protocol = weakref.ref(next(iter(edge.connections)))
                await way(client)
            await until(lambda: not edge.connections)
            await edge.quiet()
            await until(lambda: protocol() is None, "the protocol is freed")
            assert [ref() for ref in made if ref() is not None] == []
        finally:
            gc.enable()


async def test_no_timer_stays_behind():
    async with running_edge(engine) as edge:
        async with Raw.to(edge.url) as client:
            await good(client)
        await until(lambda: not edge.connections)
        for way in WAYS:
            async with Raw.to(edge.url) as client:
                await until(lambda: edge.connections)
                protocol = next(iter(edge.connections))
                await way(client)
            await until(lambda: not edge.connections)
            assert not protocol._patience.armed, way
            assert not protocol._end.waiting, way
            assert protocol.timeout_keep_alive_task is None, way
            assert protocol._running is None
            assert protocol._writer is None
            assert not protocol.pipeline
            assert not protocol._behind


async def test_a_writer_of_an_answered_request_holds_no_connection():
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await client.send(post({**STREAM, "wait": True}))
        await client.until(b"one")
        protocol = next(iter(edge.connections))
        writer = protocol._writer
        assert isinstance(writer, Writer)
        client.close()
        await until(lambda: writer.gone)
        assert writer._transport is None
        await edge.quiet()


async def test_a_drain_lets_a_running_answer_finish_and_leaves_what_is_behind_it():
    release = asyncio.Event()

    async def held(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await exchange.send(chunk("one"))
        await release.wait()
        for event in (finish(), DONE):
            await exchange.send(event)
        await exchange.end()

    async with (
        running_edge(held, drain_ms=5_000) as edge,
        Raw.to(edge.url) as busy,
        Raw.to(edge.url) as idle,
        Raw.to(edge.url) as half,
    ):
        assert (await idle.ask(post(path="/v1/models", method="GET"))).status == 200
        await half.send(b"GET / HTTP/1.1\r\n")
        await busy.send(post(STREAM) + post(path="/v1/models", method="GET"))
        head = await busy.head()
        await busy.chunk(head)
        edge.edge.lifecycle.begin_drain()
        assert await idle.ended() == b""
        assert await half.ended() == b""
        release.set()
        assert (await busy.body(head)).body.endswith(DONE)
        assert await busy.ended() == b""
