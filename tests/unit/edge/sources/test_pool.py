from __future__ import annotations

import asyncio
import contextlib

import pytest

from edge.sources.connection import Connection
from edge.sources.pool import ConnectError, Pool, PoolSettings
from tests.support.timing import MS
from tests.unit.edge.scripted import DEADLINE_S, turning
from tests.unit.edge.sources.engines import Engine, Line, client

pytestmark = pytest.mark.anyio


async def answers(line: Line) -> bool:
    await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    return True


def pool(url: str, **settings: float) -> Pool:
    figures = {"connect_s": DEADLINE_S, "idle_s": DEADLINE_S, "max_idle": 8, "rcvbuf_bytes": 65536} | settings
    return Pool(url, PoolSettings(**figures))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix", "authority"),
    [
        ("http://gpu:8000", "gpu", 8000, b"", b"gpu:8000"),
        ("http://gpu/", "gpu", 80, b"", b"gpu"),
        ("https://gpu/a/b/", "gpu", 443, b"/a/b", b"gpu"),
        ("http://user:pass@gpu:1/x", "gpu", 1, b"/x", b"gpu:1"),
        ("http://[::1]:8000", "::1", 8000, b"", b"[::1]:8000"),
    ],
)
async def test_addresses(url: str, host: str, port: int, prefix: bytes, authority: bytes) -> None:
    made = pool(url)
    assert (made.host, made.port, made.prefix, made.authority) == (host, port, prefix, authority)


async def test_an_idle_connection_is_given_up_before_the_engine_does_it() -> None:
    async with Engine(answers) as engine, client(engine.url, settings={"idle_s": 25 * MS}) as edge:
        await edge.ask(stream=False)
        assert edge.pool.idle == 1
        await engine.news.until(lambda: engine.closed == 1)
        assert edge.pool.idle == 0


async def test_a_connection_that_is_too_old_is_not_taken() -> None:
    async with Engine(answers) as engine, client(engine.url) as edge:
        await edge.ask(stream=False)
        connection = edge.pool.take()
        assert isinstance(connection, Connection)
        edge.pool.released(connection)
        connection.idle_since -= 2 * DEADLINE_S
        assert edge.pool.take() is None
        await engine.news.until(lambda: engine.closed == 1)


async def test_the_most_recent_connection_is_taken_first() -> None:
    async with Engine(answers) as engine, client(engine.url) as edge:
        await asyncio.gather(*(edge.ask(stream=False) for _ in range(3)))
        assert (edge.pool.idle, len(engine.lines)) == (3, 3)
        first = edge.pool.take()
        second = edge.pool.take()
        assert first is not None
        assert second is not None
        assert first.idle_since >= second.idle_since
        edge.pool.released(second)
        edge.pool.released(first)
        assert edge.pool.take() is first
        edge.pool.released(first)


async def test_no_more_than_so_many_are_kept() -> None:
    async with Engine(answers) as engine, client(engine.url, settings={"max_idle": 1}) as edge:
        await asyncio.gather(*(edge.ask(stream=False) for _ in range(3)))
        assert edge.pool.idle == 1
        await engine.news.until(lambda: engine.closed == 2)


async def test_a_closed_pool_keeps_nothing_idle() -> None:
    async with Engine(answers) as engine, client(engine.url) as edge:
        await asyncio.gather(*(edge.ask(stream=False) for _ in range(3)))
        edge.pool.close()
        assert edge.pool.idle == 0
        await engine.news.until(lambda: engine.closed == 3)


async def test_the_counts_are_of_connections_at_work() -> None:
    go = asyncio.Event()

    async def waits(line: Line) -> bool:
        await go.wait()
        return await answers(line)

    async with Engine(waits) as engine, client(engine.url) as edge:
        asking = [asyncio.ensure_future(edge.ask(stream=False)) for _ in range(2)]
        await engine.news.until(lambda: len(engine.requests) == 2)
        assert (edge.pool.active, edge.pool.idle) == (2, 0)
        go.set()
        await asyncio.gather(*asking)
        assert (edge.pool.active, edge.pool.idle) == (0, 2)


async def test_a_host_without_an_address() -> None:
    made = pool("http://no-such-host.invalid:1")
    with pytest.raises(ConnectError, match="host name is unknown"):
        await made.connect()
    assert made.active == 0


async def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    async with Engine(answers) as engine:
        made = pool(engine.url)
        for turns in range(6):
            task = asyncio.ensure_future(made.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).close()
            await turning(lambda: not made.active)
