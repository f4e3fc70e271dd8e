"""Required figures of the hot path: one write to a read, no task for a token, at most three decodes for a stream."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from edge.server import tls_writer
from edge.server.websocket import WebSocket
from edge.server.writer import Writer
from edge.sources.connection import Connection
from tests.support.inprocess import DONE, MODEL, RunningEdge, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post
from tests.support.websocket import opened, request

pytestmark = pytest.mark.anyio

TOKENS = 500
USAGE = (
    b'data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":'
    b'{"prompt_tokens":3,"completion_tokens":500,"total_tokens":503}}\n\n'
)


class CountedTransport:
    """A transport that counts what the writer does to it."""

    def __init__(self, transport: asyncio.Transport, counts: Counter[str]) -> None:
        self._transport = transport
        self._counts = counts

    def write(self, data: bytes) -> None:
        self._counts["writes"] += 1
        self._transport.write(data)

    def writelines(self, data: Any) -> None:
        raise AssertionError("one buffer, one write")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.fixture
def counts(monkeypatch) -> Counter[str]:
    """Count reads from engines, writes to clients, and JSON decodes, in this process."""
    counts: Counter[str] = Counter()

    class CountedWriter(Writer):
        def __init__(self, transport: asyncio.Transport, **options: Any) -> None:
            super().__init__(CountedTransport(transport, counts), **options)

    class CountedSocket(WebSocket):
        def __init__(self, transport: asyncio.Transport, *arguments: Any, **options: Any) -> None:
            super().__init__(CountedTransport(transport, counts), *arguments, **options)  # type: ignore[arg-type]

    class CountedConnection(Connection):
        def buffer_updated(self, nbytes: int) -> None:
            counts["reads"] += 1
            super().buffer_updated(nbytes)

    def counted(decode: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            counts["decodes"] += 1
            return decode(*args, **options)

        return call

    monkeypatch.setattr(tls_writer, "Writer", CountedWriter)
    monkeypatch.setattr("edge.server.websocket.WebSocket", CountedSocket)
    monkeypatch.setattr("edge.sources.pool.Connection", CountedConnection)
    monkeypatch.setattr(msgspec.json, "decode", counted(msgspec.json.decode))
    monkeypatch.setattr(json, "loads", counted(json.loads))
    return counts


def count_tasks(counts: Counter[str]) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        counts["tasks"] += 1
        return asyncio.Task(coro, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(factory)


async def polling(edge: RunningEdge) -> None:
    """Wait until control's first snapshot is read and the next poll for news is held: nothing else comes then."""
    await until(lambda: sum(one.path == "/v1/sync" for one in edge.control.exchanges) > 1, "control is polled")


class Lockstep:
    """An engine that sends its next piece when the client has had the last one: each is a read of its own."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.go = asyncio.Semaphore(0)

    async def __call__(self, exchange: ScriptedExchange) -> None:
        await exchange.head()
        for piece in self.pieces:
            await self.go.acquire()
            await exchange.send(piece)
        await exchange.end()


async def test_each_read_from_the_engine_is_one_write_to_the_client_and_no_token_costs_a_task_or_a_decode(counts):
    engine = Lockstep(*[chunk(f"token {number}") for number in range(TOKENS)], finish(), USAGE, DONE)
    body = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}, "messages": []}
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await polling(edge)
        counts.clear()
        count_tasks(counts)
        await client.send(post(body))
        engine.go.release()
        head = await client.head()
        await client.chunk(head)
        started = Counter(counts)
        for _ in range(TOKENS - 1):
            engine.go.release()
            await client.chunk(head)
        middle = counts - started
        assert middle["writes"] == middle["reads"] == TOKENS - 1
        assert middle["tasks"] == 0
        assert middle["decodes"] == 0
        for _ in range(3):
            engine.go.release()
        await client.body(head)
        assert head.body == b"".join(engine.pieces)
        await edge.quiet()
        # Of the request, of control's route (then cached), of the usage chunk.
        assert counts["decodes"] <= 3


async def test_what_arrives_together_is_written_together_and_half_an_event_not_at_all(counts):
    events = [chunk(f"token {number}") for number in range(40)]
    joined = b"".join(events)
    engine = Lockstep(joined[:100], joined[100:], chunk("x") + finish(), DONE)
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await client.send(post({"model": MODEL, "stream": True}))
        await until(lambda: counts["reads"] == 1, "headers are read")
        engine.go.release()
        await until(lambda: counts["reads"] == 2, "half an event is read")
        assert counts["writes"] == 0
        engine.go.release()
        head = await client.head()
        assert await client.chunk(head) == joined
        engine.go.release()
        assert await client.chunk(head) == chunk("x") + finish()
        engine.go.release()
        await client.body(head)
        assert counts["writes"] == 3
        await edge.quiet()


async def test_over_websocket_too(counts):
    engine = Lockstep(*[chunk(f"token {number}") for number in range(TOKENS)], finish(), USAGE, DONE)
    body = request(stream_options={"include_usage": True})
    async with running_edge(engine) as edge, opened(edge.url) as socket:
        await polling(edge)
        await socket.start("a", body)
        engine.go.release()
        await socket.event("a")
        started = Counter(counts)
        count_tasks(counts)
        for _ in range(TOKENS - 1):
            engine.go.release()
            text = await socket.connection.recv()
            assert isinstance(text, str)
        middle = counts - started
        assert middle["writes"] == middle["reads"] == TOKENS - 1
        assert middle["tasks"] == 0
        assert middle["decodes"] == 0
        for _ in range(3):
            engine.go.release()
        await socket.whole("a")
        await edge.quiet()


async def test_a_resumable_stream_costs_a_copy_and_nothing_else(counts):
    events = [chunk(f"token {number}") for number in range(TOKENS)]
    engine = Lockstep(*events, finish(), DONE)
    async with running_edge(engine) as edge, Raw.to(edge.url) as client:
        await polling(edge)
        await client.send(post({"model": MODEL, "stream": True}, headers={"X-Headrace-Resume": "1"}))
        head = await client.head()
        engine.go.release()
        await client.chunk(head)
        started = Counter(counts)
        count_tasks(counts)
        for _ in range(TOKENS - 1):
            engine.go.release()
            await client.chunk(head)
        middle = counts - started
        assert middle["writes"] == middle["reads"] == TOKENS - 1
        assert middle["tasks"] == middle["decodes"] == 0
        engine.go.release()
        engine.go.release()
        await client.body(head)
        assert head.body == b"".join(b"id: %d\n%b" % pair for pair in enumerate(engine.pieces, 1))
        await edge.quiet()
