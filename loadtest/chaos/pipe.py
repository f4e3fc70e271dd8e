"""One direction of one connection: read, hold for as long as the toxics say, write."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, TypeVar

from loadtest.chaos.toxics import Bandwidth, HalfClose, Latency, Reset, Slice, Stall, Toxic

__all__ = ["Pipe"]

T = TypeVar("T")
_READ_BYTES: Final = 16_384
#: A bandwidth is kept in steps of this length.
_STEP_S: Final = 0.02


class _OverError(Exception):
    """This direction was half-closed by a toxic, and its sender has ended."""


class Pipe:
    """Carries bytes one way.

    Args:
        reader: where they come from.
        writer: where they go.
        toxics: gives what is wrong in this direction now.
        buffer_bytes: held at most; then the sender is not read.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        toxics: Callable[[], Sequence[Toxic]],
        buffer_bytes: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._toxics = toxics
        self._buffer_bytes = buffer_bytes
        #: Due time and bytes; empty bytes are the end.
        self._queue: deque[tuple[float, bytes]] = deque()
        self._changed = asyncio.Event()
        self._carried_bytes = 0
        self.held_bytes = 0

    def look(self) -> None:
        """The toxics have changed, or the queue has."""
        self._changed.set()

    async def run(self) -> None:
        """Carry until the end.

        Raises:
            ConnectionError: one side is broken, or a `Reset` is due.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill())
            group.create_task(self._drain())

    def _one(self, kind: type[T]) -> T | None:
        return next((toxic for toxic in self._toxics() if isinstance(toxic, kind)), None)

    async def _wait(self, seconds: float | None = None) -> None:
        """Wait for a change, or for so long."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _fill(self) -> None:
        due = 0.0
        while True:
            while self.held_bytes >= self._buffer_bytes:
                await self._wait()
            data = await self._reader.read(min(_READ_BYTES, self._buffer_bytes - self.held_bytes))
            latency = self._one(Latency)
            delay_s = 0.0
            if latency is not None:
                spread = random.uniform(-latency.jitter_ms, latency.jitter_ms)
                delay_s = max(0.0, latency.ms + spread) / 1000
            due = max(due, monotonic() + delay_s)  # Never before what came before it.
            self._queue.append((due, data))
            self.held_bytes += len(data)
            self._changed.set()
            if not data:
                return

    async def _drain(self) -> None:
        while True:
            while not self._queue:
                await self._wait()
            due, data = self._queue[0]
            while (left := due - monotonic()) > 0 and self._one(Latency) is not None:
                await self._wait(left)
            if not data:
                await self._stall()
                self._end()
                return
            try:
                while data:
                    data = data[await self._write(data) :]
            except _OverError:
                return
            self._queue.popleft()
            self._changed.set()

    def _end(self) -> None:
        if not self._writer.transport.is_closing():
            self._writer.write_eof()

    async def _stall(self) -> None:
        """Wait while a `Stall` is due."""
        while (stall := self._one(Stall)) is not None and self._carried_bytes >= stall.after_bytes:
            await self._wait()

    async def _write(self, data: bytes) -> int:
        """Write a part of `data` as the toxics want it; return how much."""
        await self._stall()
        size = len(data)
        for toxic in self._toxics():
            if isinstance(toxic, Stall | Reset | HalfClose):
                # A limit that came too late takes effect at once.
                size = min(size, max(0, toxic.after_bytes - self._carried_bytes))
        gap_s = 0.0
        if (cut := self._one(Slice)) is not None:
            size, gap_s = min(size, cut.bytes), cut.gap_ms / 1000
        if (band := self._one(Bandwidth)) is not None:
            size = min(size, max(1, int(band.bytes_per_s * _STEP_S)))
            gap_s = max(gap_s, size / band.bytes_per_s)
        if size:
            if self._writer.transport.is_closing():
                raise ConnectionResetError("the receiver is gone")
            self._writer.write(data[:size])
            await self._writer.drain()
            self._carried_bytes += size
            self.held_bytes -= size
        await self._limits()
        if gap_s:
            await asyncio.sleep(gap_s)
        elif cut is not None:
            await asyncio.sleep(0)  # So that two segments do not become one.
        return size

    async def _limits(self) -> None:
        """Do what a byte count has made due."""
        reset = self._one(Reset)
        if reset is not None and self._carried_bytes >= reset.after_bytes:
            raise ConnectionResetError("a chaos reset")
        half = self._one(HalfClose)
        if half is not None and self._carried_bytes >= half.after_bytes:
            self._end()
            # What else comes is dropped; the other direction lives on.
            while not any(not data for _, data in self._queue):
                self.held_bytes = 0
                self._queue.clear()
                self._changed.set()
                await asyncio.sleep(0)
                await self._wait()
            raise _OverError
