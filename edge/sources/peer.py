"""Reading a stream that another instance of the edge has: its bytes pass through untouched, in whole events."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

import msgspec

from edge.sources.connection import Connection, Head
from edge.sources.pool import ConnectError, Pool
from edge.streams.backlog import Backlog
from edge.streams.contracts import Outlet, Reply
from edge.streams.quiet import Quiet
from edge.streams.slow_reader import SlowReader
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import DONE
from streamkit.wire.sse import CONTENT_TYPE, whole_bytes
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["PeerLimits", "PeerReading"]

#: Of a refusal by the owner.
_REFUSAL_BYTES: Final = 16 * 1024


class PeerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a relayed reading."""

    max_event_bytes: int
    #: The owner is silent for so long, heartbeats counted in: it is gone.
    silence_s: float
    slow_reader_s: float


class _Error(msgspec.Struct, frozen=True):
    message: str = ""
    code: str = ""
    param: str | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error = _Error()


class PeerReading:
    """One request to the owner of a stream; a `Readable`, and the taker of its connection.

    Args:
        pool: connections to the owner.
        head: the request, without a body.
        limits: bounds.
    """

    __slots__ = (
        "_backlog",
        "_connecting",
        "_connection",
        "_decided",
        "_head",
        "_limits",
        "_outlet",
        "_over",
        "_pool",
        "_quiet",
        "_slow",
        "_status",
        "_tail",
        "committed",
        "error",
        "reply",
    )

    def __init__(self, pool: Pool, head: bytes, limits: PeerLimits) -> None:
        loop = asyncio.get_running_loop()
        self._pool = pool
        self._head = head
        self._limits = limits
        self._outlet: Outlet | None = None
        self._backlog = Backlog()
        self._tail = b""
        self._status = 0
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._decided: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._quiet = Quiet(loop, limits.silence_s, self._silent)
        self._slow = SlowReader(loop, limits.slow_reader_s, self._stuck)
        self.committed = False
        self.reply: Reply | None = None
        #: The owner's refusal, or why it could not be asked; known once decided.
        self.error: HeadraceError | None = None

    def begin(self) -> None:
        """Ask the owner."""
        connection = self._pool.take()
        if connection is not None:
            self._ask(connection)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    # Readable

    async def decided(self) -> None:
        """Wait for the owner's status."""
        await self._decided

    def attach(self, outlet: Outlet) -> None:
        """Let bytes flow to `outlet`."""
        held = self._backlog.take()
        taken = not held or outlet.write(held)
        if self._over.done():
            return
        self._outlet = outlet
        outlet.on_resume = self._resume
        if taken:
            self._resume()
        else:
            self._slow.pause(outlet)

    async def ended(self) -> None:
        """Wait until nothing more will be written."""
        await self._over

    def gone(self) -> None:
        """The client is gone: so is the owner's reader."""
        self._finish()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()

    # Taker

    def on_head(self, head: Head) -> None:
        """The owner has answered."""
        self._status = head.status
        if head.status == 200 and head.content_type.startswith(CONTENT_TYPE):
            self.committed = True
            self._decide()

    def on_body(self, data: bytes) -> None:
        """Pass on what is whole; half an event waits, so that an error frame can follow any write (law 4)."""
        self._quiet.last = monotonic()
        data = self._tail + data
        if not self.committed:
            self._tail = data[:_REFUSAL_BYTES]
            return
        whole = whole_bytes(data)
        self._tail = data[whole:]
        if len(self._tail) > self._limits.max_event_bytes + len(b"id: \n") + 20:
            self._fail(Code.EVENT_TOO_LARGE, "An event of this stream is larger than max_event_bytes.")
        elif whole:
            self._write(data[:whole])

    def on_complete(self) -> None:
        """The owner's answer is whole."""
        self._connection = None
        if self.committed:
            self._finish()
        elif self._status == 204:
            self.reply = Reply(status=204, body=b"")
            self._decide()
        else:
            self._refuse(_refusal(self._tail))

    def on_broken(self, reason: str) -> None:
        """The connection failed before that."""
        self._connection = None
        if not self._over.done():
            self._fail(
                Code.STREAM_BROKEN, "The edge that has this stream broke off. Come back with the last event's id."
            )

    # Inside

    async def _connect(self) -> None:
        try:
            connection = await self._pool.connect()
        except ConnectError as exc:
            self._fail(Code.BACKEND_ERROR, f"The edge that has this stream cannot be reached: {exc}. Try again.")
        else:
            self._ask(connection)
        finally:
            self._connecting = None

    def _ask(self, connection: Connection) -> None:
        if self._over.done():
            connection.close()
            return
        self._connection = connection
        connection.begin(self, self._head, b"")

    def _write(self, data: bytes) -> None:
        outlet = self._outlet
        if not (outlet.write(data) if outlet is not None else self._backlog.write(data)):
            self._slow.pause(outlet)
            if self._connection is not None:
                self._connection.pause()

    def _resume(self) -> None:
        if self._slow.resume() and self._connection is not None:
            self._connection.resume()

    def _stuck(self) -> None:
        if self._outlet is not None:
            self._outlet.abort()
        self.gone()

    def _silent(self) -> None:
        if self._slow.paused:
            self._quiet.restart()
        else:
            self._fail(Code.STREAM_STALLED, "The edge that has this stream is silent. Come back with the last id.")

    def _fail(self, code: Code, text: str) -> None:
        error = HeadraceError(code, text)
        if not self.committed:
            self._refuse(error)
        elif not self._over.done():
            if self._slow.paused and self._outlet is not None:
                self._outlet.abort()
            else:
                self._write(error.frame() + DONE)
            self._finish()
        if self._connection is not None:
            self._connection.abort()

    def _refuse(self, error: HeadraceError) -> None:
        self.error = error
        self.reply = Reply(status=error.wire.status, body=error.envelope(), headers=tuple(error.headers()))
        self._decide()
        self._finish()

    def _decide(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)

    def _finish(self) -> None:
        self._quiet.stop()
        self._slow.stop()
        self._decide()
        if not self._over.done():
            self._over.set_result(None)
        if self._outlet is not None:
            self._outlet.on_resume = self._outlet.on_pause = self._outlet.on_disconnect = None
            self._outlet = None


def _refusal(body: bytes) -> HeadraceError:
    """Return what the owner refused with, as our own error."""
    try:
        told = msgspec.json.decode(body, type=_Envelope).error
        code = Code(told.code)
    except (*UNREADABLE, ValueError):
        return HeadraceError(Code.BACKEND_ERROR, "The edge that has this stream answered with what nobody can read.")
    return HeadraceError(code, told.message, param=told.param)
