"""One stream's way out on a WebSocket that it shares with others: frames, credit, and what is held for want of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from edge.protocol.socket_out import EventFrames, error_frame
from streamkit.flow.budget import Account
from streamkit.wire.errors import TABLE, Code, HeadraceError

__all__ = ["Carrier", "SocketOutlet"]

_FULL: Final = "The gateway's memory budget is used up, so events that wait for credit cannot be kept."


class Carrier(Protocol):
    """What carries the frames of many streams: a WebSocket, or a data channel."""

    @property
    def cause(self) -> str:
        """How the client was lost, once it is."""

    @property
    def paused(self) -> bool:
        """It is over its high mark."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client has not taken."""

    def write(self, frames: bytes) -> bool:
        """Write whole frames; False = paused, what was given is kept."""

    def abort(self, code: int) -> None:
        """End it and all its streams; what is unsent is dropped."""


class SocketOutlet:
    """An outlet that turns events into frames, and sends them while the client has given credit for them.

    Credit is counted in the bytes of event messages. They go out while some is left, so that the last may overdraw
    it, and are held when it is used up; what is held is what one read brought, for the upstream is paused by then.
    Messages other than events are free, but never overtake one.

    Args:
        socket: where frames go.
        name: the client's name for the stream.
        credit: bytes; None = uncounted, the socket's own flow control is enough.
        account: charged with what is held.
        seq: number of the last event that the client has.
    """

    __slots__ = (
        "_account", "_credit", "_drained", "_frames", "_full", "_held", "_held_bytes", "_name", "_socket",
        "on_disconnect", "on_full", "on_pause", "on_resume", "told",
    )  # fmt: skip

    def __init__(self, socket: Carrier, name: str, *, credit: int | None, account: Account, seq: int = 0) -> None:
        self._socket = socket
        self._name = name
        self._credit = credit
        self._account = account
        self._frames = EventFrames(name, seq)
        #: Frames with the credit that each takes.
        self._held: deque[tuple[bytes, int]] = deque()
        self._held_bytes = 0
        self._full = False
        #: The stream's last message was sent.
        self.told = False
        self._drained: asyncio.Future[None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None
        #: The memory budget has no room for what should be held; the stream must end in this error.
        self.on_full: Callable[[HeadraceError], None] | None = None

    # For the stream

    def write(self, data: bytes) -> bool:
        """Send whole events, or hold them; False = the upstream should wait."""
        frame = self._frames.one(data)
        if frame and self._credit is None:
            return self._socket.write(frame)
        frames = [frame] if frame else self._frames.frames(data)
        if self._credit is not None:
            return self._spend(frames)
        if frames:
            self._socket.write(b"".join(frames))
            self.told = self._frames.ended
        return not self._socket.paused

    @property
    def unsent_bytes(self) -> int:
        """What the reader owes: credit and, while the socket is over its high mark, the socket's unsent bytes."""
        owed = 0 if self._credit is None or self._credit > 0 else self._held_bytes - self._credit
        return owed + (self._socket.unsent_bytes if self._socket.paused else 0)

    @property
    def cause(self) -> str:
        """How the client was lost, once it is."""
        return self._socket.cause

    def abort(self) -> None:
        """The reader has taken nothing for too long: end the socket if it is that, else this stream alone."""
        if self._socket.paused:
            self._socket.abort(TABLE[Code.SLOW_READER].ws_close)
            return
        self.close()
        text = "No credit came for too long; the stream was cut. Send `credit` for what was read."
        self._socket.write(error_frame(HeadraceError(Code.SLOW_READER, text), self._name))
        self.told = True

    # For the socket

    @property
    def seq(self) -> int:
        """Number of the last event that was sent or is held."""
        return self._frames.seq

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for credit."""
        return self._held_bytes

    def grant(self, credit: int) -> None:
        """The client takes so many more bytes."""
        if self._credit is None:
            return
        self._credit += credit
        frames: list[bytes] = []
        while self._held and (self._credit > 0 or not self._held[0][1]):
            frame, cost = self._held.popleft()
            self._credit -= cost
            self._held_bytes -= len(frame)
            self._account.release(len(frame))
            frames.append(frame)
        if frames:
            self._socket.write(b"".join(frames))
            self.told = self._frames.ended and not self._held
        if not self._held and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self.relieved()

    def relieved(self) -> None:
        """Credit came, or the socket is under its low mark."""
        open_ = self._credit is None or (self._credit > 0 and not self._held)
        if open_ and not self._socket.paused and self.on_resume is not None:
            self.on_resume()

    async def drained(self) -> None:
        """Wait until nothing is held."""
        if self._held:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def close(self) -> None:
        """Drop what is held, and send nothing more."""
        self._frames.ended = True
        self._drop()
        self.on_full = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # Inside

    def _spend(self, frames: list[bytes]) -> bool:
        out: list[bytes] = []
        credit = self._credit or 0
        for frame in frames:
            cost = 0 if self._frames.ended and frame is frames[-1] else _text_bytes(frame)
            if self._full and cost:
                continue
            if self._held or (credit <= 0 and cost):
                self._hold(frame, cost)
            else:
                credit -= cost
                out.append(frame)
        self._credit = credit
        if out:
            self._socket.write(b"".join(out))
            self.told = self._frames.ended and not self._held
        return credit > 0 and not self._held and not self._socket.paused

    def _hold(self, frame: bytes, cost: int) -> None:
        if self._account.reserve(len(frame)):
            self._held.append((frame, cost))
            self._held_bytes += len(frame)
            return
        self._full = True
        self._drop()
        if self.on_full is not None:
            asyncio.get_running_loop().call_soon(self.on_full, HeadraceError(Code.OUT_OF_MEMORY, _FULL))

    def _drop(self) -> None:
        self._held.clear()
        self._account.release(self._held_bytes)
        self._held_bytes = 0


def _text_bytes(frame: bytes) -> int:
    """Return the length of a frame's text, which is what a client can count."""
    size = len(frame)
    return size - (2 if size < 128 else 4 if size < 65_540 else 10)
