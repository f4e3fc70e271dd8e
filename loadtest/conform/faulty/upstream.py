"""The engine's side of the faulty gateway: one request, and the pieces of its answer."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

__all__ = ["BrokenError", "Pool", "Upstream"]


class BrokenError(Exception):
    """The engine's connection ended before its answer did.

    Args:
        how: `reset` or `eof`.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Upstream:
    """One connection to an engine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.used = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self._left = 0

    async def send(self, request: bytes) -> None:
        """Send a request and read its answer's head.

        Raises:
            BrokenError: there is none.
        """
        try:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise BrokenError("eof" if isinstance(error, asyncio.IncompleteReadError) else "reset") from error
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self.status = int(line.split()[1])
        pairs = [text.partition(":") for text in lines]
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._left = int(self.headers.get("content-length", "0"))

    async def piece(self) -> bytes:
        """Return the next part of the body, one HTTP chunk where there are chunks; empty at its end.

        Raises:
            BrokenError: it ended early.
        """
        try:
            if self.headers.get("transfer-encoding") == "chunked":
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                data = await self._reader.readexactly(size + 2)
                return data[:-2]
            data = await self._reader.read(min(self._left, 65_536)) if self._left else b""
            if self._left and not data:
                raise BrokenError("eof")
        except asyncio.IncompleteReadError as error:
            raise BrokenError("eof") from error
        except ConnectionError as error:
            raise BrokenError("reset") from error
        self._left -= len(data)
        return data

    async def body(self) -> bytes:
        """Return all of the body.

        Raises:
            BrokenError: it ended early.
        """
        parts: list[bytes] = []
        while piece := await self.piece():
            parts.append(piece)
        return b"".join(parts)

    def close(self) -> None:
        """End it."""
        self._writer.transport.abort()


class Pool:
    """Connections to some engines, in turn; those that ended an answer well are used again."""

    def __init__(self, urls: list[str]) -> None:
        self._addresses = [(parts.hostname, parts.port) for parts in map(urlsplit, urls)]
        self._turn = 0
        self._idle: list[Upstream] = []

    async def take(self, *, fresh: bool = False) -> Upstream:
        """Return a connection.

        Raises:
            BrokenError: no engine takes one.
        """
        if self._idle and not fresh:
            upstream = self._idle.pop()
            upstream.used += 1
            return upstream
        self._turn += 1
        host, port = self._addresses[self._turn % len(self._addresses)]
        try:
            return Upstream(*await asyncio.open_connection(host, port, limit=1 << 18))
        except OSError as error:
            raise BrokenError("refused") from error

    def give(self, upstream: Upstream) -> None:
        """Keep a connection whose answer ended well."""
        if len(self._idle) < 32:
            self._idle.append(upstream)
        else:
            upstream.close()

    def close(self) -> None:
        """End those that are idle."""
        while self._idle:
            self._idle.pop().close()
