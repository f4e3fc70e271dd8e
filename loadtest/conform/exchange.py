"""One request at the scripted backend, and the hand on its answer: raw bytes, resets, silence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from time import monotonic
from typing import Any, Final

__all__ = ["Exchange", "GoneError"]

_RESET: Final = struct.pack("ii", 1, 0)
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


class GoneError(Exception):
    """The gateway closed the connection."""


class Exchange:
    """One request at the backend, and the hand on its answer."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes, *, earlier: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._chunked = False
        self._open = True
        #: The first byte of a next request that came before this one was over.
        self.early = b""
        line, _, rest = head.partition(b"\r\n")
        self.method, self.path = [*line.decode("latin-1").split(" "), "", ""][:2]
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (field.partition(":") for field in rest.decode("latin-1").split("\r\n"))
            if name
        }
        self.body = body
        #: Which attempt of its plan this is, from 1.
        self.attempt = 1
        #: Requests that this connection had carried before.
        self.earlier = earlier
        self.at = monotonic()
        #: When the gateway closed the connection, once it has.
        self.gone_at: float | None = None
        self.gone = asyncio.Event()
        #: Bytes that the gateway took.
        self.sent_bytes = 0
        #: Set when the script is over.
        self.over = asyncio.Event()

    @property
    def json(self) -> dict[str, Any]:
        """The request's body as a JSON object; empty where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def usage_asked(self) -> bool:
        """The gateway asks for a usage chunk."""
        return bool((self.json.get("stream_options") or {}).get("include_usage"))

    # Writing.

    async def raw(self, data: bytes) -> None:
        """Write bytes as they are.

        Raises:
            GoneError: nobody takes them any more.
        """
        if self.gone.is_set():
            raise GoneError
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            self._left()
            raise GoneError from None
        self.sent_bytes += len(data)

    async def head(self, status: int = 200, **headers: str) -> None:
        """Write a status line and fields (`_` stands for `-`); a body without a length is chunked."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self._chunked = "content-length" not in fields
        if self._chunked:
            fields["transfer-encoding"] = "chunked"
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.raw(f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}\r\n{text}\r\n".encode())

    async def stream(self) -> None:
        """Begin an event stream."""
        await self.head(content_type="text/event-stream; charset=utf-8")

    async def send(self, *parts: bytes) -> None:
        """Write body bytes: one HTTP chunk for each part."""
        framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part for part in parts if part)
        await self.raw(framed)

    async def end(self) -> None:
        """End a chunked body as HTTP says."""
        await self.raw(b"0\r\n\r\n")

    async def answer(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        """Write a whole answer with a length."""
        await self.head(status, content_type=content_type, content_length=str(len(body)), **headers)
        await self.send(body)

    async def sent_all(self) -> None:
        """Wait until the kernel has every byte, so that what is done next comes after them on the wire."""
        await asyncio.sleep(0.05)  # `raw` has drained; what is done next must not overtake it in the gateway.

    def reset(self) -> None:
        """End the connection with RST."""
        self._open = False
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    def close(self) -> None:
        """End the connection with FIN."""
        self._open = False
        self._writer.close()

    # The gateway's end.

    async def watch(self) -> None:
        """Notice when the gateway closes, whatever the script does."""
        try:
            data = await self._reader.read(1)
        except ConnectionError:
            data = b""
        self.early = data
        if not data:
            self._left()

    def _left(self) -> None:
        if not self.gone.is_set():
            self.gone_at = monotonic()
            self.gone.set()

    async def silence(self, seconds: float = 3600.0) -> None:
        """Do nothing until the gateway leaves, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.gone.wait()

    @property
    def reusable(self) -> bool:
        """The connection can carry another request."""
        return self._open and not self.gone.is_set()
