"""The chaos proxy's control page: a few lines of HTTP on the loopback.

GET    /           toxics, open connections, bytes held
PUT    /toxics     a JSON list: exactly these are wrong from now on
DELETE /toxics     nothing is wrong
POST   /cut        every connection is reset now
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, Self

import msgspec

from loadtest.chaos.proxy import ChaosProxy
from loadtest.chaos.toxics import Toxic
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Control"]

_REQUEST_BYTES: Final = 65_536
_REQUEST_S: Final = 5.0


class Control:
    """Serves the control page of one proxy; an async context manager.

    Args:
        proxy: whose.
        port: on the loopback; 0 takes a free one.
    """

    def __init__(self, proxy: ChaosProxy, port: int = 0) -> None:
        self._proxy = proxy
        self._port = port
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=_REQUEST_BYTES)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_S):
                status, body = await self._answer(reader)
                data = msgspec.json.encode(body) + b"\n"
                head = (
                    f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
                    "connection: close\r\n\r\n"
                )
                writer.write(head.encode() + data)
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, Any]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")
        method, path = [*line.split(" "), "", ""][:2]
        lengths = [field.partition(":")[2] for field in fields if field.lower().startswith("content-length:")]
        size = int(lengths[0]) if lengths and lengths[0].strip().isdecimal() else 0
        if size > _REQUEST_BYTES:
            return "413 Too Large", {"error": f"at most {_REQUEST_BYTES} bytes"}
        body = await reader.readexactly(size)
        proxy = self._proxy
        match method, path:
            case "GET", "/":
                pass
            case "PUT", "/toxics":
                try:
                    proxy.set(*msgspec.json.decode(body, type=list[Toxic]))
                except UNREADABLE as error:
                    return "400 Bad Request", {"error": str(error)}
            case "DELETE", "/toxics":
                proxy.clear()
            case "POST", "/cut":
                return "200 OK", {"cut": proxy.cut()}
            case _:
                told = "GET /, PUT /toxics, DELETE /toxics and POST /cut are what there is"
                return "404 Not Found", {"error": told}
        return "200 OK", {"toxics": list(proxy.toxics), "open": proxy.open, "held_bytes": proxy.held_bytes}
