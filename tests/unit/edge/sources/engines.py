"""A real server on loopback whose every answer is a script, and a sink that remembers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

from edge.sources.engine import EngineLimits, EngineSource, Exchange
from edge.sources.pool import Pool, PoolSettings
from edge.streams.contracts import Outcome, UpstreamRequest
from streamkit.flow.budget import Account, Budget
from streamkit.wire.backend import Cancels, Capabilities
from streamkit.wire.events import Batch
from tests.unit.edge.scripted import DEADLINE_S, News, candidate, turning

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Line:
    """One connection as the engine sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.body = b""

    async def request(self) -> bool:
        """Read the next request; False when the client has gone instead."""
        try:
            self.head = await self.reader.readuntil(b"\r\n\r\n")
            size = int(self.head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
            self.body = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed its end."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[object]]


class Engine:
    """Plays one script for each request, the last one again and again; a script that returns False ends its line."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.lines: list[Line] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.closed = 0
        self.port = 0
        self.news = News()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for line in self.lines:
            line.writer.transport.abort()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            # Connections are closed in the loop's next turns.
            await self.news.until(lambda: self.closed == len(self.lines))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = Line(reader, writer)
        self.lines.append(line)
        self.news.tell()
        try:
            while await line.request():
                self.requests.append((line.head, line.body))
                self.news.tell()
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                if await script(line) is False:
                    break
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            # asyncio's streams report a handler that was cancelled; the test has ended it on purpose.
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)
            self.closed += 1
            self.news.tell()


class Sink:
    """Remembers batches; fails the test on a second end or on anything behind it."""

    def __init__(self) -> None:
        self.sends = 0
        self.batches: list[Batch] = []
        self.outcome: Outcome | None = None
        self.on_feed: Callable[[Batch], None] | None = None
        self.news = News()

    @property
    def text(self) -> bytes:
        return b"".join(batch.data for batch in self.batches)

    def sent(self) -> None:
        assert self.outcome is None
        self.sends += 1
        self.news.tell()

    def feed(self, batch: Batch) -> None:
        assert self.outcome is None, "nothing follows the end"
        assert self.sends == 1
        self.batches.append(batch)
        self.news.tell()
        if self.on_feed is not None:
            self.on_feed(batch)

    def end(self, outcome: Outcome) -> None:
        assert self.outcome is None, "the end is told once"
        self.outcome = outcome
        self.news.tell()

    async def ended(self) -> Outcome:
        await self.news.until(lambda: self.outcome is not None)
        assert self.outcome is not None
        return self.outcome


class Client:
    """A source with its pool and its memory account."""

    def __init__(self, url: str, limits: dict[str, int], settings: dict[str, float], cancels: Cancels) -> None:
        figures: dict[str, float] = {"connect_s": DEADLINE_S, "idle_s": DEADLINE_S, "max_idle": 8} | settings
        self.pool = Pool(url, PoolSettings(rcvbuf_bytes=64 * 1024, **figures))  # type: ignore[arg-type]
        self.budget = Budget(limits.pop("memory_bytes", 1 << 24))
        self.account: Account = self.budget.account("answers")
        bounds = {"max_event_bytes": 1 << 20, "max_response_bytes": 1 << 20} | limits
        target = candidate(url=url, capabilities=Capabilities(cancels_on_close=cancels), api_key="k3y")
        self.source = EngineSource(target, self.pool, EngineLimits(**bounds), self.account)

    def open(self, sink: Sink, *, stream: bool = True, one_choice: bool = True, body: bytes = b"{}") -> Exchange:
        headers = ((b"x-request-id", b"r1"),)
        request = UpstreamRequest(
            path=b"/v1/chat/completions", body=body, stream=stream, one_choice=one_choice, headers=headers
        )
        return self.source.open(request, sink)

    async def ask(self, *, stream: bool = True) -> tuple[Sink, Outcome]:
        sink = Sink()
        self.open(sink, stream=stream)
        return sink, await sink.ended()


@contextlib.asynccontextmanager
async def client(
    url: str, *, cancels: Cancels | None = None, settings: dict[str, float] | None = None, **limits: int
) -> AsyncIterator[Client]:
    """Yield a client; on leaving, nothing may be held any more and every connection is closed."""
    made = Client(url, limits, settings or {}, cancels or Cancels())
    try:
        yield made
        assert made.account.used_bytes == 0
    finally:
        made.pool.close()
        await turning(lambda: not made.pool.active)
