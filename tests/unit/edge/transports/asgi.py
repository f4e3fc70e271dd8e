"""The two ends of an ASGI call, played by a test."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from edge.server.writer import EXTENSION, Writer
from tests.unit.edge.scripted import News

Message = MutableMapping[str, Any]


class Wire(asyncio.Transport):
    """The connection below a writer: what is written shows as body messages."""

    def __init__(self, asgi: Asgi) -> None:
        super().__init__()
        self._asgi = asgi

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self._asgi.sent.append({"type": "http.response.body", "body": data, "more_body": True})
        self._asgi.news.tell()


class Asgi:
    """What a server would give to one request, and what it gets back.

    With `writer` it is our own server, whose extension takes the middle of the body; without, any other.
    """

    def __init__(
        self, *messages: Message, headers: dict[str, str] | None = None, method: str = "POST", writer: bool = False
    ) -> None:
        self.scope: Message = {
            "type": "http",
            "method": method,
            "path": "/",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()],
        }
        self.sent: list[Message] = []
        self.receives = 0
        self.news = News()
        self._messages = list(messages)
        self._gone = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self.writer: Writer | None = None
        if writer:
            self.writer = Writer(Wire(self), chunked=False)
            self.scope["extensions"] = {EXTENSION: self.writer}

    async def receive(self) -> Message:
        self.receives += 1
        if self._messages:
            return self._messages.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self._open.wait()
        self.sent.append(message)
        self.news.tell()

    def leave(self) -> None:
        self._gone.set()
        if self.writer is not None:
            self.writer.disconnected()

    def stick(self) -> None:
        self._open.clear()

    def unstick(self) -> None:
        self._open.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def body(*pieces: bytes, more: bool = False) -> list[Message]:
    return [
        {"type": "http.request", "body": piece, "more_body": more or index + 1 < len(pieces)}
        for index, piece in enumerate(pieces)
    ]
