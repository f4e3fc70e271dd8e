from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from streamkit.ops.http_client import HttpClient, HttpError

pytestmark = pytest.mark.anyio
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(*pieces: bytes | None, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """Serve a raw answer to every request; None holds the connection open until its client is gone."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if b"length" in line), 0)
            body = await reader.readexactly(length)
            if seen is not None:
                seen.append(head + body)
            for piece in pieces:
                if piece is None:
                    await reader.read()
                else:
                    writer.write(piece)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def failure(call: Awaitable[object]) -> str:
    with pytest.raises(HttpError) as caught:
        await call
    return caught.value.reason


async def test_a_get():
    seen: list[bytes] = []
    async with answering(ok(b"hi"), seen=seen) as url, HttpClient() as http:
        answer = await http.get(f"{url}/x", timeout_ms=5_000, headers=[("x-q", "2")])
    assert (answer.status, answer.body, answer.headers["x-a"]) == (200, b"hi", "1")
    assert seen[0].startswith(b"GET /x HTTP/1.1")
    assert b"x-q: 2" in seen[0].lower()


@pytest.mark.parametrize("payload", [{"a": [1]}, b'{"a":[1]}'])
async def test_a_post(payload):
    seen: list[bytes] = []
    async with answering(ok(b"{}"), seen=seen) as url, HttpClient() as http:
        assert (await http.post_json(url, payload, timeout_ms=5_000)).status == 200
    assert seen[0].endswith(b'{"a":[1]}')
    assert b"content-type: application/json" in seen[0].lower()


async def test_an_error_status_is_an_answer():
    async with answering(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n") as url, HttpClient() as http:
        assert (await http.get(url, timeout_ms=5_000)).status == 503


async def test_silence_is_a_timeout_however_it_trickles():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx"
    for pieces in ((None,), (head, None)):
        async with answering(*pieces) as url, HttpClient() as http:
            assert await failure(http.get(url, timeout_ms=100)) == "timeout"


async def test_nobody_there(unused_tcp_url: str):
    async with HttpClient() as http:
        assert await failure(http.get(unused_tcp_url, timeout_ms=5_000)) == "connect"


async def test_a_broken_answer():
    async with HttpClient() as http:
        async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx") as url:
            assert await failure(http.get(url, timeout_ms=5_000)) == "closed"
        async with answering(b"nonsense\r\n\r\n") as url:
            assert await failure(http.get(url, timeout_ms=5_000)) == "closed"
        assert await failure(http.get("ftp://x/", timeout_ms=5_000)) == "protocol"


async def test_a_body_over_the_bound_is_refused():
    async with answering(ok(b"x" * 200)) as url, HttpClient(limit_bytes=100) as http:
        assert await failure(http.get(url, timeout_ms=5_000)) == "too_large"


async def test_the_environment_is_not_looked_at(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with answering(ok(b"direct")) as url, HttpClient() as http:
        assert (await http.get(url, timeout_ms=5_000)).body == b"direct"


HEAD = b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n"


async def test_lines_come_as_they_are_written():
    async with (
        answering(HEAD, b"data: a\r\n\nda", b"ta: b\nlast") as url,
        HttpClient() as http,
        http.stream_lines(url, {}, timeout_ms=5_000, idle_ms=5_000) as stream,
    ):
        assert (stream.status, stream.headers["x-a"]) == (200, "1")
        assert [line async for line in stream.lines] == ["data: a", "", "data: b", "last"]


async def test_a_silent_stream_is_a_timeout_and_a_long_line_is_too_large():
    async with (
        answering(HEAD, b"one\n", None) as url,
        HttpClient(limit_bytes=100) as http,
        http.stream_lines(url, {}, timeout_ms=5_000, idle_ms=100) as stream,
    ):
        assert await anext(stream.lines) == "one"
        assert await failure(anext(stream.lines)) == "timeout"
    async with (
        answering(HEAD, b"x" * 200, None) as url,
        HttpClient(limit_bytes=100) as http,
        http.stream_lines(url, {}, timeout_ms=5_000, idle_ms=5_000) as stream,
    ):
        assert await failure(anext(stream.lines)) == "too_large"


async def test_leaving_the_block_closes_the_connection():
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"one\n")
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, HttpClient() as http:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with http.stream_lines(url, b"", timeout_ms=5_000, idle_ms=5_000) as stream:
            assert await anext(stream.lines) == "one"
        await asyncio.wait_for(gone.wait(), 5)


@pytest.fixture
def unused_tcp_url() -> str:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"
