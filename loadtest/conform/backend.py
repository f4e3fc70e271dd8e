"""The scripted backend: an engine that does to each request what a case wrote for it, byte by byte.

A case puts `conform:<nonce>` into the user's message. Every gateway passes that on, whatever it does
to headers, fields and model names; the nonce finds the script. Any other request gets a plain engine's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self

from loadtest.conform import plain
from loadtest.conform.exchange import Exchange, GoneError
from streamkit.wire.address import place

__all__ = ["Backend", "Exchange", "Plan", "Script"]

_LOG: Final = logging.getLogger("conform.backend")
_NONCE: Final = re.compile(rb"conform:([0-9a-f]{16})")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_HEAD_BYTES: Final = 1 << 20
_BODY_BYTES: Final = 1 << 26


Script = Callable[[Exchange], Awaitable[None]]


class Plan:
    """One script waiting for its request.

    Args:
        script: what the backend does.
        backend: where it is known by its nonce.
    """

    def __init__(self, script: Script) -> None:
        self.nonce = secrets.token_hex(8)
        self.script = script
        #: One for each attempt that reached the backend.
        self.exchanges: list[Exchange] = []
        self._changed = asyncio.Event()

    @property
    def prompt(self) -> str:
        """What the user's message has to contain."""
        return f"conform:{self.nonce}"

    @property
    def id(self) -> str:
        """The answer's id."""
        return f"chatcmpl-{self.nonce}"

    def arrived(self, exchange: Exchange) -> None:
        """Note an attempt."""
        self.exchanges.append(exchange)
        exchange.attempt = len(self.exchanges)
        self._changed.set()

    async def exchange(self, wait_s: float, attempt: int = 1) -> Exchange:
        """Wait for an attempt to reach the backend.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(wait_s):
            while len(self.exchanges) < attempt:
                self._changed.clear()
                await self._changed.wait()
        return self.exchanges[attempt - 1]


class Backend:
    """Listens where the gateway under test expects its engine; an async context manager.

    Args:
        addresses: host and port of each listener; port 0 takes a free one.
        model: the one that it serves.
    """

    def __init__(self, addresses: list[tuple[str, int]], model: str) -> None:
        self._addresses = addresses
        self.model = model
        self._plans: dict[str, Plan] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        #: Base addresses, in the order asked for.
        self.urls: list[str] = []

    async def __aenter__(self) -> Self:
        for host, port in self._addresses:
            server = await asyncio.start_server(self._connected, host, port, limit=_HEAD_BYTES, backlog=512)
            self._servers.append(server)
            self.urls.append(f"http://{place(host, server.sockets[0].getsockname()[1])}")
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def plan(self, script: Script) -> AsyncIterator[Plan]:
        """Have `script` answer the requests that carry the plan's prompt, for the length of the block."""
        plan = Plan(script)
        self._plans[plan.nonce] = plan
        try:
            yield plan
        finally:
            del self._plans[plan.nonce]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs this as a task.
        self._tasks.add(task)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.transport.set_write_buffer_limits(high=0)
        earlier = 0
        early: bytes | None = b""
        try:
            while early is not None:
                early = await self._serve(reader, writer, early, earlier)
                earlier += 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, GoneError):
            return
        except asyncio.CancelledError:
            return  # The backend ends.
        except Exception:  # noqa: BLE001  # The connection's outermost frame.
            _LOG.exception("a script failed")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes, earlier: int
    ) -> bytes | None:
        """Serve one request; what came of the next one already, or None when the connection is over."""
        head = early + await reader.readuntil(b"\r\n\r\n")
        exchange = Exchange(reader, writer, head, await self._body(reader, head), earlier=earlier)
        found = _NONCE.search(exchange.body)
        plan = self._plans.get(found[1].decode()) if found else None
        watch = asyncio.create_task(exchange.watch())
        try:
            if plan is None:
                await plain.answer(exchange, self.model)
            else:
                plan.arrived(exchange)
                await plan.script(exchange)
        finally:
            exchange.over.set()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        return exchange.early if exchange.reusable else None

    @staticmethod
    async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
        if _CHUNKED.search(head):
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                if len(body) + size > _BODY_BYTES:
                    raise asyncio.LimitOverrunError("the body is too large", 0)
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
            return body
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if size > _BODY_BYTES:
            raise asyncio.LimitOverrunError("the body is too large", 0)
        return await reader.readexactly(size)
