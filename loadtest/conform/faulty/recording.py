"""A resumable stream of the faulty gateway: kept whole, read by whoever asks."""

from __future__ import annotations

import asyncio
from typing import Protocol

from loadtest.conform.faulty.client import Client, ClientGoneError

__all__ = ["Recording", "Writable", "replay"]


class Writable(Protocol):
    """What a stream is written to: a client, or a recording."""

    gone: asyncio.Event

    @property
    def reset(self) -> bool:
        """It is broken beyond a half-close."""

    @property
    def full(self) -> bool:
        """It reads more slowly than it is written to."""

    def begin(self, headers: dict[str, str]) -> None:
        """Write the head."""

    def write(self, data: bytes) -> None:
        """Write one event or comment."""

    def end(self) -> None:
        """End it."""

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Write a whole answer instead."""

    async def drain(self) -> None:
        """Wait until it reads."""


class Recording:
    """Numbered events and what lay between them.

    Args:
        id_: the stream's id.
        single: heartbeats end in one newline.
    """

    def __init__(self, id_: str, *, single: bool) -> None:
        self.id = id_
        self.gone = asyncio.Event()
        self.reset = False
        self.full = False
        self.parts: list[tuple[int, bytes]] = []
        self.ended = False
        self.changed = asyncio.Event()
        self._count = 0
        self._single = single

    def begin(self, headers: dict[str, str]) -> None:
        """Nothing: each reader has a head of its own."""

    def write(self, data: bytes) -> None:
        """Keep a part; data events get a number."""
        if data.startswith(b":"):
            self.parts.append((0, b": ping\n" if self._single else data))
        else:
            self._count += 1
            self.parts.append((self._count, b"id: %d\n%b" % (self._count, data)))
        self.changed.set()

    def end(self) -> None:
        """Mark the end."""
        self.ended = True
        self.changed.set()

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Keep an error as an event: readers have their 200 already."""
        self.write(b"data: " + body + b"\n\n")
        self.end()

    async def drain(self) -> None:
        """Nothing to wait for."""


async def replay(client: Client, recording: Recording, *, after: int) -> None:
    """Write a recording to a client as far as it goes, and go along with it.

    Raises:
        ClientGoneError: the client left.
    """
    client.begin({"content-type": "text/event-stream", "x-headrace-stream": recording.id})
    at = 0
    while True:
        while at < len(recording.parts):
            number, data = recording.parts[at]
            if number > after or (not number and not after):
                client.write(data)
            at += 1
        await client.drain()
        if recording.ended:
            client.end()
            await client.drain()
            return
        recording.changed.clear()
        gone = asyncio.create_task(client.gone.wait())
        news = asyncio.create_task(recording.changed.wait())
        await asyncio.wait({gone, news}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        news.cancel()
        if client.gone.is_set():
            raise ClientGoneError
