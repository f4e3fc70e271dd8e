"""A client on a bare socket: it says exactly what a test says, when it says it, and reads only when it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.timing import FACTOR

__all__ = ["DEADLINE_S", "Raw", "Response", "post"]

#: Of every read that has to bring something; a test that hangs fails here, and says where.
DEADLINE_S = 5.0 * FACTOR
_RESET = struct.pack("ii", 1, 0)


def post(
    body: bytes | Mapping[str, Any] = b"",
    *,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    version: str = "1.1",
) -> bytes:
    """Return a whole request; a mapping goes out as JSON, and an empty header value leaves that header out."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"host": "edge", "content-type": "application/json", "content-length": str(len(payload))}
    lines |= {name.lower(): value for name, value in (headers or {}).items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode() + payload


class Response:
    """One response as it came over the wire."""

    def __init__(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self.fields = headers
        self.headers = dict(headers)
        #: The body in the HTTP chunks that it came in; one piece where there were no chunks.
        self.chunks: list[bytes] = []
        #: The body ended as HTTP says it must.
        self.whole = False

    @property
    def body(self) -> bytes:
        """All of the body that came."""
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error of an envelope; AssertionError if the body is none."""
        assert self.headers["content-type"] == "application/json", self.headers
        body = self.json
        assert set(body) == {"error"}, body
        assert set(body["error"]) == {"message", "type", "param", "code"}, body
        found: dict[str, Any] = body["error"]
        return found


class Raw:
    """A TCP connection to a server, driven from the test's own event loop; use it as an async context manager."""

    def __init__(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        self.socket = sock
        self._peer = peer
        self._read = bytearray()
        self._ended = False

    @classmethod
    def to(cls, url: str, *, rcvbuf_bytes: int | None = None) -> Raw:
        """Return a connection that `async with` makes.

        Args:
            url: base address of the server.
            rcvbuf_bytes: `SO_RCVBUF`, set before the connection is made, as a small window needs it.
        """
        parts = urlsplit(url)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if rcvbuf_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return cls(sock, (str(parts.hostname), int(parts.port or 80)))

    async def __aenter__(self) -> Self:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_connect(self.socket, self._peer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Sending.

    async def send(self, *pieces: bytes) -> Self:
        """Send pieces one after the other; each is a segment of its own where the kernel lets it be."""
        async with asyncio.timeout(DEADLINE_S):
            for piece in pieces:
                await asyncio.get_running_loop().sock_sendall(self.socket, piece)
        return self

    async def pour(self, piece: bytes, total_bytes: int) -> int:
        """Send `piece` again and again; return how much the server took before it closed, at most `total_bytes`."""
        sent = 0
        try:
            while sent < total_bytes:
                await self.send(piece)
                sent += len(piece)
        except (ConnectionError, TimeoutError):
            pass
        return sent

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close as a client does that leaves."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()

    # Reading.

    async def more(self) -> bool:
        """Read once; False at the end of what the server sends."""
        if self._ended:
            return False
        async with asyncio.timeout(DEADLINE_S):
            data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        self._read += data
        self._ended = not data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with `mark`; AssertionError if the server ends before."""
        while (at := self._read.find(mark)) < 0:
            assert await self.more(), f"ended before {mark!r}: {bytes(self._read)!r}"
        return self._take(at + len(mark))

    async def ended(self) -> bytes:
        """Read to the server's end and return what was left; ConnectionResetError if it comes as a reset."""
        while await self.more():
            pass
        return self._take(len(self._read))

    async def gone(self) -> bool:
        """Wait until the server has ended the connection, in whatever way; True if as a reset."""
        try:
            await self.ended()
        except ConnectionError:
            return True
        return False

    async def head(self) -> Response:
        """Read a status line and headers."""
        status, *lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        assert status.startswith("HTTP/1.1 "), status
        pairs = [line.split(": ", 1) for line in lines]
        return Response(int(status.split()[1]), [(name, value) for name, value in pairs])

    async def chunk(self, response: Response) -> bytes | None:
        """Read one HTTP chunk and keep it; None at the end of the body."""
        size = int(await self.until(b"\r\n"), 16)
        data = (await self.exactly(size + 2))[:-2]
        if not size:
            response.whole = True
            return None
        response.chunks.append(data)
        return data

    async def body(self, response: Response) -> Response:
        """Read the rest of a response's body."""
        if "content-length" in response.headers:
            response.chunks.append(await self.exactly(int(response.headers["content-length"])))
            response.whole = True
        elif response.headers.get("transfer-encoding") == "chunked":
            while await self.chunk(response) is not None:
                pass
        elif response.status not in (204, 304):
            response.chunks.append(await self.ended())
            response.whole = True
        return response

    async def response(self) -> Response:
        """Read one whole response."""
        return await self.body(await self.head())

    async def ask(self, *pieces: bytes) -> Response:
        """Send, and read one whole response."""
        await self.send(*pieces)
        return await self.response()

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._read) < size:
            assert await self.more(), f"ended {size - len(self._read)} bytes early: {bytes(self._read[-200:])!r}"
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._read[:size])
        del self._read[:size]
        return data
