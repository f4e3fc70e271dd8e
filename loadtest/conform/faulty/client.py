"""The client's side of the faulty gateway: requests in, answers out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import Final

from loadtest.conform.faulty.faults import Faults

__all__ = ["Client", "ClientGoneError", "RefusedError", "Request", "refusal"]

_HEAD_BYTES: Final = 65_536
_BODY_BYTES: Final = 8 << 20
_AHEAD_BYTES: Final = 262_144
_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 502: "Bad Gateway"}


class ClientGoneError(Exception):
    """The client left."""


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: for a person.
        headers: further fields.
        close: the connection cannot go on.
    """

    def __init__(
        self, status: int, message: str, *, headers: dict[str, str] | None = None, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.close = close


def refusal(status: int, message: str) -> bytes:
    """Return an OpenAI error body."""
    return json.dumps({"error": {"message": message, "type": "error", "param": None, "code": status}}).encode()


@dataclass(slots=True)
class Request:
    """One request."""

    method: str
    path: str
    version: str
    headers: dict[str, str]
    body: bytes

    @property
    def keeps(self) -> bool:
        """The connection may go on after it."""
        return self.version == "1.1" and self.headers.get("connection", "").lower() != "close"


class Client:
    """One connection from a client, read ahead so that its end is noticed at any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults) -> None:
        self._reader = reader
        self._writer = writer
        self._faults = faults
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._first_read = True
        #: Its end was read: it has left, or half-closed.
        self.gone = asyncio.Event()
        self._chunked = False
        self._request: Request | None = None
        self._pump = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(65_536):
                self._buffer += data
                self._news.set()
                while len(self._buffer) > _AHEAD_BYTES:
                    self._room.clear()
                    await self._room.wait()
        self.gone.set()
        self._news.set()

    async def close(self) -> None:
        """End the connection, gently: what was written is still read."""
        self._pump.cancel()
        with contextlib.suppress(ConnectionError):
            self._writer.close()
            await self._writer.wait_closed()

    @property
    def reset(self) -> bool:
        """The connection is broken, beyond a half-close."""
        return self._writer.transport.is_closing()

    @property
    def ahead(self) -> bool:
        """Something of a next request is here."""
        return bool(self._buffer)

    def drop_ahead(self) -> None:
        """Forget what a client pipelined."""
        self._buffer.clear()

    # Reading.

    async def _more(self) -> None:
        if self.gone.is_set():
            raise ClientGoneError
        self._news.clear()
        await self._news.wait()

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._room.set()
        return data

    async def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            if not self._buffer:
                await self._more()
            parts.append(self._take(size))
            size -= len(parts[-1])
        return b"".join(parts)

    async def _until(self, mark: bytes, limit: int) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > limit and not self._faults.on("header-flood"):
                raise RefusedError(431, "the headers are too large", close=True)
            if self._buffer and self._first_read and self._faults.on("slow-request"):
                raise RefusedError(400, "the request is not whole", close=True)
            await self._more()
        return self._take(at + len(mark))

    async def request(self) -> Request:
        """Read one request.

        Raises:
            ClientGoneError: there is none.
            RefusedError: it cannot be served.
        """
        self._request = None
        self._first_read = not self._buffer
        if self._first_read:
            await self._more()
        head = (await self._until(b"\r\n\r\n", _HEAD_BYTES)).decode("latin-1")
        if len(head) > _HEAD_BYTES and not self._faults.on("header-flood"):
            raise RefusedError(431, "the headers are too large", close=True)
        line, *lines = head.split("\r\n")[:-2]
        match = re.fullmatch(r"(\S+) (\S+) HTTP/(1\.[01])", line)
        if match is None:
            raise RefusedError(400, "this is no HTTP request", close=True)
        pairs = [text.partition(":") for text in lines]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._request = request = Request(match[1], match[2], match[3], headers, b"")
        request.body = await self._body(request)
        return request

    async def _body(self, request: Request) -> bytes:
        headers = request.headers
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if chunked and "content-length" in headers and not self._faults.on("two-faced-framing"):
            raise RefusedError(400, "two lengths", close=True)
        size = int(headers.get("content-length", "0"))
        if size > _BODY_BYTES and not chunked:
            status = 500 if self._faults.on("too-large") else 413
            raise RefusedError(status, "the body is too large", close=True)
        if headers.get("expect", "").lower() == "100-continue":
            if self._faults.on("expect-100"):
                await asyncio.sleep(3600)
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not chunked:
            return await self._exactly(size)
        body = b""
        while size := int((await self._until(b"\r\n", _HEAD_BYTES)).split(b";")[0], 16):
            if len(body) + size > _BODY_BYTES:
                raise RefusedError(413, "the body is too large", close=True)
            body += (await self._exactly(size + 2))[:-2]
        await self._until(b"\r\n", _HEAD_BYTES)
        return b"" if self._faults.on("chunked-request") else body

    # Writing.

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Write a whole answer."""
        fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        self._head(status, fields)
        no_body = self._request is not None and self._request.method == "HEAD" and not self._faults.on("head")
        if not no_body:
            self._writer.write(body)
        await self.drain()

    def begin(self, headers: dict[str, str]) -> None:
        """Write the head of a stream."""
        old = self._request is not None and self._request.version == "1.0" and not self._faults.on("http-1.0")
        self._chunked = not old
        self._head(200, {**headers, **({"connection": "close"} if old else {"transfer-encoding": "chunked"})})

    def _head(self, status: int, fields: dict[str, str]) -> None:
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._writer.write(f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n{text}\r\n".encode())

    def write(self, data: bytes) -> None:
        """Write a part of a stream."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """End a stream."""
        if self._chunked:
            self._writer.write(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        """Write bytes that belong to no answer."""
        self._writer.write(data)

    @property
    def full(self) -> bool:
        """It reads more slowly than it is written to."""
        return self._writer.transport.get_write_buffer_size() > 65_536

    async def drain(self) -> None:
        """Wait until it reads.

        Raises:
            ClientGoneError: it never will.
        """
        try:
            await self._writer.drain()
        except ConnectionError:
            self.gone.set()
            raise ClientGoneError from None

    async def linger(self) -> None:
        """Drop what still comes for a moment: closing upon unread bytes would destroy the answer."""
        with contextlib.suppress(TimeoutError, OSError):
            self._writer.write_eof()
            async with asyncio.timeout(1.0):
                while not self.gone.is_set():
                    self._buffer.clear()
                    self._room.set()
                    self._news.clear()
                    await self._news.wait()
