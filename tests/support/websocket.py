"""A real WebSocket client that sorts what it hears by stream, and frames by hand for those who misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.raw import DEADLINE_S, Raw, Response

__all__ = ["ENDS", "PATH", "Socket", "close_code", "frame", "handshake", "opened", "read_frame", "request", "shaken"]

PATH = "/v1/ws"
#: Messages that end a stream.
ENDS = ("done", "error", "cancelled")
_DATA = re.compile(r'^\{"type":"event","id":"[^"]*","seq":\d+,"data":(?P<data>.*)\}$', re.DOTALL)


def request(**members: Any) -> dict[str, Any]:
    """Return a chat request for the scripted engine's model."""
    return {"model": "m", "stream": True, "messages": [], **members}


class Socket:
    """A client's side of one socket. Made by `opened`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        #: What was heard and not asked for yet, by the stream's name; "" = about no stream.
        self._heard: dict[str, list[dict[str, Any]]] = defaultdict(list)
        #: The texts of all messages, as they came.
        self.texts: list[str] = []

    async def say(self, type_: str, name: str | None = None, **members: Any) -> None:
        """Send one message."""
        named = {} if name is None else {"id": name}
        await self.connection.send(json.dumps({"type": type_, **named, **members}))

    async def start(self, name: str, body: Mapping[str, Any] | None = None, **members: Any) -> None:
        """Begin a chat stream."""
        await self.say("start", name, **{"operation": "chat", "request": body or request(), **members})

    async def next(self, name: str = "") -> dict[str, Any]:
        """Return the next message about a stream; those about others are kept for whoever asks."""
        async with asyncio.timeout(DEADLINE_S):
            while not self._heard[name]:
                text = await self.connection.recv()
                assert isinstance(text, str), "only text is sent"
                self.texts.append(text)
                message = json.loads(text)
                self._heard[message.get("id", "")].append(message)
        return self._heard[name].pop(0)

    async def whole(self, name: str) -> list[dict[str, Any]]:
        """Return all messages of a stream to its end."""
        messages = [await self.next(name)]
        while messages[-1]["type"] not in ENDS:
            messages.append(await self.next(name))
        return messages

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next event of a stream; AssertionError if it is something else, `started` apart."""
        message = await self.next(name)
        if message["type"] == "started":
            message = await self.next(name)
        assert message["type"] == "event", message
        return message

    async def closed(self) -> int:
        """Wait for the end of the socket and return its close code; 1006 = without a close."""
        async with asyncio.timeout(DEADLINE_S):
            await self.connection.wait_closed()
        return self.connection.close_code or 1006

    def quiet(self, name: str) -> bool:
        """Nothing more was heard about a stream so far."""
        return not self._heard[name]

    @staticmethod
    def data(text: str) -> str:
        """Return the data of an event's message, character for character."""
        found = _DATA.match(text)
        assert found is not None, text
        return found["data"]


@contextlib.asynccontextmanager
async def opened(url: str, *, query: str = "", **options: Any) -> AsyncIterator[Socket]:
    """Connect to an edge; options go to `websockets`."""
    given = {"compression": None, "ping_interval": None, "max_size": None, "close_timeout": DEADLINE_S, **options}
    async with connect(url.replace("http", "ws", 1) + PATH + query, **given) as connection:
        yield Socket(connection)


# By hand.


def handshake(path: str = PATH, /, method: str = "GET", version: str = "1.1", **headers: str | None) -> bytes:
    """Return an opening handshake; `None` leaves a header out."""
    lines: dict[str, str | None] = {
        "host": "edge",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode()


def frame(data: bytes, *, opcode: int = 1, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Return one frame as a client sends it, or as none should."""
    size = len(data)
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    elif size < 65_536:
        head += bytes([mark | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mark | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + data
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


async def read_frame(client: Raw) -> tuple[int, bytes]:
    """Read one frame of the server: its opcode and data; AssertionError if it is masked or a fragment."""
    head = await client.exactly(2)
    assert head[0] & 0xF0 == 0x80, "whole, and no reserved bit"
    assert head[1] < 0x80, "a server masks nothing"
    size = head[1]
    if size == 126:
        size = int.from_bytes(await client.exactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await client.exactly(8), "big")
    return head[0] & 15, await client.exactly(size)


async def close_code(client: Raw) -> int:
    """Read frames up to the server's close, answer it, and return its code; the connection must end by itself."""
    opcode, data = await read_frame(client)
    while opcode != 8:
        opcode, data = await read_frame(client)
    with contextlib.suppress(ConnectionError):
        await client.send(frame(data[:2], opcode=8))
    assert await client.ended() == b""
    return int.from_bytes(data[:2], "big")


async def shaken(client: Raw, **headers: str | None) -> Response:
    """Open a socket by hand."""
    await client.send(handshake(PATH, "GET", "1.1", **headers))
    answer = await client.head()
    assert answer.status == 101, answer.status
    return answer
