"""One reader of a resumable stream, from one event on: what a transport delivers in place of the `Stream`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from edge.streams.contracts import Outlet, Reply
from edge.streams.slow_reader import SlowReader
from streamkit.wire.errors import HeadraceError
from streamkit.wire.openai import DONE

if TYPE_CHECKING:
    from edge.streams.kept import Kept

__all__ = ["RELAYED_PATIENCE", "Reading"]

#: Of a replay, in one write.
_SLICE_BYTES: Final = 32 * 1024
#: Of another instance: its client may take long for one of the gulps in which that reads.
RELAYED_PATIENCE: Final = 4


class Reading:
    """Sends the ring's events to one outlet, as fast as that takes them; a `Readable`.

    Its bytes are the stream's own events, each behind an `id:` line with its number; heartbeats in between; and, if
    it was taken over or stopped, an error frame and `[DONE]` without numbers, because they are not the stream's.

    Args:
        kept: what is read. Its ring stands where this reading begins.
        fresh: the client that asked for the stream: it knows its id only once headers are out.
        relayed: another instance, see `Kept.read`.
    """

    __slots__ = ("_kept", "_outlet", "_over", "_slow", "unknown")

    def __init__(self, kept: Kept, *, fresh: bool = False, relayed: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._kept = kept
        self._outlet: Outlet | None = None
        self._over: asyncio.Future[None] = loop.create_future()
        patience_s = kept.timings.slow_reader_s * (RELAYED_PATIENCE if relayed else 1)
        self._slow = SlowReader(loop, patience_s, self._stuck)
        #: The stream's id has not been told to anybody.
        self.unknown = fresh

    # Readable

    @property
    def reply(self) -> Reply | None:
        """The whole answer of a stream that failed before it began."""
        return self._kept.stream.reply

    @property
    def committed(self) -> bool:
        """Whether the client is owed a 200 and an event stream."""
        return self._kept.stream.committed

    async def decided(self) -> None:
        """Wait until the stream is committed or ended."""
        await self._kept.stream.decided()

    def attach(self, outlet: Outlet) -> None:
        """Let events flow to `outlet`; headers are out."""
        self.unknown = False
        if self._over.done():
            return
        self._outlet = outlet
        outlet.on_resume = self._resume
        self.pump()

    async def ended(self) -> None:
        """Wait until nothing more will be written: the stream's end was sent, or somebody else reads now."""
        await self._over

    def gone(self) -> None:
        """The client is gone; the stream may go on without it."""
        self._finish()

    # For the kept stream

    def pump(self) -> None:
        """Send what is unsent, as far as the outlet takes it."""
        outlet, ring = self._outlet, self._kept.ring
        if outlet is None:
            return
        while ring.sent < ring.last and not self._slow.paused:
            first = ring.sent + 1
            events = ring.take(_SLICE_BYTES)
            if len(events) == 1:
                data = b"id: %d\n%b" % (first, events[0])
            else:
                data = b"".join([b"id: %d\n%b" % numbered for numbered in enumerate(events, first)])
            if not outlet.write(data):
                self._slow.pause(outlet)
        self._kept.relieved()
        if self._kept.over and ring.sent == ring.last:
            self._finish()

    def comment(self, data: bytes) -> None:
        """Send a heartbeat, if the reader is up to date: to one that is behind, bytes are on their way anyhow."""
        if self._outlet is not None and not self._slow.paused and not self._outlet.write(data):
            self._slow.pause(self._outlet)

    def end(self, error: HeadraceError) -> None:
        """End it before the stream's end, and say why."""
        if self._outlet is not None:
            self._outlet.write(error.frame() + DONE)
        self._finish()

    # Inside

    def _resume(self) -> None:
        if self._slow.resume():
            self.pump()

    def _stuck(self) -> None:
        """The reader has taken nothing for too long: let it go, and keep the stream for it."""
        if self._outlet is not None:
            self._outlet.abort()
        self._finish()

    def _finish(self) -> None:
        if self._over.done():
            return
        self._over.set_result(None)
        self._slow.stop()
        if self._outlet is not None:
            self._outlet.on_resume = self._outlet.on_pause = self._outlet.on_disconnect = None
            self._outlet = None
        self._kept.left(self)
