"""The chaos proxy does to a connection exactly what it was told, and holds no more than its bound."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import pytest

from loadtest.chaos.control import Control
from loadtest.chaos.proxy import ChaosProxy
from loadtest.chaos.toxics import (
    Bandwidth,
    Direction,
    HalfClose,
    Latency,
    Refuse,
    Reset,
    Slice,
    Stall,
    ToxicError,
    parse,
)
from tests.support.timing import FACTOR

pytestmark = pytest.mark.anyio
_WAIT_S = 5.0 * FACTOR


@pytest.fixture
def anyio_backend():
    """The proxy is a tool of its own process and runs on asyncio's loop only."""
    return "asyncio"


async def _within(awaitable):
    async with asyncio.timeout(_WAIT_S):
        return await awaitable


async def _until(condition):
    async with asyncio.timeout(_WAIT_S):
        while not condition():  # noqa: ASYNC110  # Counters have no event to wait for.
            await asyncio.sleep(0.005)


class Echo:
    """A server that sends back what it gets, and notes how it came."""

    def __init__(self):
        self.reads = []
        self.ended = asyncio.Event()
        self.reset = asyncio.Event()

    async def serve(self, reader, writer):
        try:
            while data := await reader.read(65_536):
                self.reads.append(data)
                writer.write(data)
                await writer.drain()
            self.ended.set()
        except ConnectionError:
            self.reset.set()
        writer.close()


@contextlib.asynccontextmanager
async def site(*toxics, serve=None, **options):
    """A server, a proxy in front of it, and one connection."""
    echo = Echo()
    server = await asyncio.start_server(serve or echo.serve, "127.0.0.1", 0)
    async with ChaosProxy("127.0.0.1", server.sockets[0].getsockname()[1], **options) as proxy:
        proxy.set(*toxics)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, echo, reader, writer
        finally:
            writer.transport.abort()
            proxy.clear()
            await _until(lambda: proxy.open == 0 and proxy.held_bytes == 0)
            server.close()


async def _echoed(reader, writer, data):
    writer.write(data)
    return await _within(reader.readexactly(len(data)))


async def test_without_toxics_bytes_and_ends_pass_unchanged():
    data = bytes(range(256)) * 8_192
    async with site() as (_, echo, reader, writer):
        assert await _echoed(reader, writer, data) == data
        writer.write_eof()
        assert await _within(reader.read()) == b""
        assert echo.ended.is_set()


async def test_latency_delays_each_way_and_keeps_the_order():
    async with site(Latency(ms=40, jitter_ms=30)) as (_, _, reader, writer):
        began = monotonic()
        for number in range(20):
            writer.write(b"%02d" % number)
            await asyncio.sleep(0.001)
        got = await _within(reader.readexactly(40))
        assert got == b"".join(b"%02d" % number for number in range(20))
        assert monotonic() - began >= 0.02


async def test_one_direction_only():
    async with site(Latency(ms=3_600_000, direction=Direction.DOWN)) as (proxy, echo, reader, writer):
        writer.write(b"up")
        await _until(lambda: echo.reads == [b"up"])
        assert not reader._buffer
        proxy.clear()
        assert await _within(reader.readexactly(2)) == b"up"


async def test_bandwidth_is_kept():
    async with site(Bandwidth(bytes_per_s=20_000, direction=Direction.UP)) as (_, _, reader, writer):
        began = monotonic()
        await _echoed(reader, writer, b"b" * 6_000)
        assert monotonic() - began >= 0.25


async def test_slices_arrive_as_segments_of_their_own():
    async with site(Slice(bytes=3, gap_ms=2, direction=Direction.UP)) as (_, echo, reader, writer):
        assert await _echoed(reader, writer, b"0123456789" * 3) == b"0123456789" * 3
        assert len(echo.reads) >= 3


async def test_a_stall_holds_everything_until_it_is_taken_away():
    async with site(Stall(after_bytes=4, direction=Direction.UP)) as (proxy, echo, reader, writer):
        writer.write(b"0123456789")
        await _until(lambda: proxy.held_bytes == 6)
        assert b"".join(echo.reads) in (b"", b"0123")
        proxy.clear()
        assert await _within(reader.readexactly(10)) == b"0123456789"


async def test_a_reset_comes_after_that_many_bytes_on_both_sides():
    async with site(Reset(after_bytes=5, direction=Direction.UP)) as (_, echo, reader, writer):
        writer.write(b"0123456789")
        with pytest.raises(ConnectionError):
            await _within(reader.readexactly(10))
        await _until(lambda: echo.reset.is_set() or echo.ended.is_set())
        assert b"0123456789".startswith(b"".join(echo.reads))
        assert len(b"".join(echo.reads)) <= 5


async def test_a_half_close_ends_one_direction_and_the_other_lives_on():
    got = []

    async def serve(reader, writer):
        writer.write(b"0123456789")
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                got.append(data)
        writer.close()

    async with site(HalfClose(after_bytes=4, direction=Direction.DOWN), serve=serve) as (_, _, reader, writer):
        assert await _within(reader.read()) == b"0123"
        writer.write(b"still up")
        await _until(lambda: got == [b"still up"])


async def _first_byte(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _within(reader.readexactly(1))
    finally:
        writer.transport.abort()


async def test_refused_connections_are_reset():
    async with site() as (proxy, _, reader, writer):
        proxy.set(Refuse())
        with pytest.raises(ConnectionError):
            await _first_byte(proxy.port)
        # What was open before lives on.
        assert await _echoed(reader, writer, b"alive") == b"alive"


async def test_a_server_that_is_not_there_is_a_reset():
    async with ChaosProxy("127.0.0.1", 1) as proxy:
        with pytest.raises(ConnectionError):
            await _first_byte(proxy.port)


async def test_cut_resets_every_connection():
    async with site() as (proxy, echo, reader, writer):
        await _echoed(reader, writer, b"x")
        assert proxy.cut() == 1
        with pytest.raises(ConnectionError):
            await _within(reader.readexactly(1))
        await _within(echo.reset.wait())


async def test_a_change_reaches_connections_that_are_open():
    async with site() as (proxy, _, reader, writer):
        await _echoed(reader, writer, b"before")
        proxy.set(Reset(after_bytes=6, direction=Direction.DOWN))
        writer.write(b"after")
        with pytest.raises(ConnectionError):
            await _within(reader.readexactly(5))


async def test_a_reader_that_stops_bounds_what_is_held():
    sent = 0

    async def pour(_reader, writer):
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                writer.write(b"p" * 65_536)
                await writer.drain()
                sent += 65_536
        writer.close()

    bound = 100_000
    async with site(Stall(direction=Direction.DOWN), serve=pour, buffer_bytes=bound) as (proxy, _, _, _):
        before = -1
        while sent != before:  # Until the kernel's buffers are full, too.
            before = sent
            await asyncio.sleep(0.1)
        assert 0 < proxy.held_bytes <= bound
        assert sent < 32 << 20


async def _control(url, method, path, body=b""):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"%b %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (method, path, len(body), body))
    answer = await _within(reader.read())
    writer.close()
    head, _, found = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), found


async def test_the_control_page_lists_changes_and_cuts():
    async with site() as (proxy, _, reader, writer), Control(proxy) as control:
        await _echoed(reader, writer, b"x")
        toxics = b'[{"toxic": "latency", "ms": 5, "direction": "down"}]'
        status, found = await _control(control.url, b"PUT", b"/toxics", toxics)
        assert status == 200
        assert b'"open":1' in found
        assert proxy.toxics == (Latency(ms=5, direction=Direction.DOWN),)
        status, found = await _control(control.url, b"PUT", b"/toxics", b'[{"toxic": "latency", "ms": -1}]')
        assert status == 400
        assert b"`int` >= 0" in found or b">= 0" in found
        assert proxy.toxics == (Latency(ms=5, direction=Direction.DOWN),), "a bad list changes nothing"
        assert (await _control(control.url, b"DELETE", b"/toxics"))[0] == 200
        assert proxy.toxics == ()
        assert (await _control(control.url, b"POST", b"/cut"))[1] == b'{"cut":1}\n'
        assert (await _control(control.url, b"GET", b"/nowhere"))[0] == 404


@pytest.mark.parametrize(
    ("text", "toxic"),
    [
        ("refuse", Refuse()),
        ("latency:ms=50,jitter_ms=10", Latency(ms=50, jitter_ms=10)),
        ("reset:after_bytes=4096,direction=up", Reset(after_bytes=4096, direction=Direction.UP)),
        ("slice:bytes=1,gap_ms=0.5", Slice(bytes=1, gap_ms=0.5)),
    ],
)
async def test_toxics_are_read_from_the_command_line(text, toxic):
    assert parse(text) == toxic


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("earthquake", 'no toxic "earthquake"; there are latency, bandwidth'),
        ("latency", "latency: Object missing required field `ms`"),
        ("latency:ms", '"ms" is no key=value'),
        ("slice:bytes=0", "slice: Expected `int` >= 1"),
        ("reset:after=3", "reset: Object contains unknown field `after`"),
    ],
)
async def test_what_cannot_be_read_is_said(text, told):
    with pytest.raises(ToxicError, match=told):
        parse(text)
