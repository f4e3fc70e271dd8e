"""A resumable stream: what is kept of it, who reads it just now, and how long it waits when nobody does.

    Stream ──▶ Kept (an `Outlet`) ──▶ Ring ──▶ Reading ──▶ the transport's own outlet

Readers come and go; the newest wins. A stream that nobody reads runs on for its window (law 6's exception), and one
that has ended can be read for as long. Then everything is released.

A transport takes part by `read(after)`: it delivers the `Reading` as it does a `Stream`, and closes it at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

import msgspec

from edge.protocol.ring import Ring
from edge.protocol.states import StreamEvent, StreamState
from edge.streams.reading import Reading
from edge.streams.stream import Stream
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import DONE

__all__ = ["Keeper", "Kept", "KeptTimings", "Owner"]

_COMMENT: Final = b":"
#: Readers' comings and goings that are remembered.
_TURNS: Final = 16
_OUT_OF_MEMORY: Final = HeadraceError(
    Code.OUT_OF_MEMORY, "The gateway's memory for resumable streams is used up. Ask again, or without resume."
)


class Owner(msgspec.Struct, frozen=True):
    """Who may read and stop a stream: one key of one tenant."""

    tenant: str
    key_id: str


class KeptTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of a resumable stream, in seconds."""

    #: How long it is kept while nobody reads.
    window_s: float
    #: A reader that takes nothing for so long is let go.
    slow_reader_s: float


class Keeper(Protocol):
    """Who keeps resumable streams: the shelf."""

    def resumed(self, *, takeover: bool) -> None:
        """A reader has come back. `takeover`: another one was reading until now."""

    def spare(self, kept: Kept, *, yes: bool) -> None:
        """The stream is over and nobody reads it, so it may be released where memory is short; or not any more."""

    def expired(self) -> None:
        """A window is over."""

    def released(self, kept: Kept) -> None:
        """Nothing is kept of it any more."""


class Kept:
    """One resumable stream; the outlet of its `Stream`.

    Args:
        stream_id: its public name.
        owner: who may resume it.
        stream: made with `kept=True`, and nothing has been fed to it.
        ring: its events.
        timings: deadlines.
        keeper: told what happens.
        loop: of its timers.
    """

    __slots__ = (
        "_full",
        "_keeper",
        "_loop",
        "_reading",
        "_torn",
        "_window",
        "on_disconnect",
        "on_pause",
        "on_resume",
        "on_torn",
        "over",
        "owner",
        "resumes",
        "ring",
        "stream",
        "stream_id",
        "timings",
        "turns",
    )

    def __init__(
        self,
        stream_id: str,
        owner: Owner,
        stream: Stream,
        ring: Ring,
        *,
        timings: KeptTimings,
        keeper: Keeper,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.stream_id = stream_id
        self.owner = owner
        self.stream = stream
        self.ring = ring
        self.timings = timings
        self._keeper = keeper
        self._loop = loop
        self._reading: Reading | None = None
        self._window: asyncio.TimerHandle | None = None
        self._full = False
        #: Memory was used up in the middle of it: what comes after the gap is not kept, except for the end.
        self._torn = False
        #: The stream has ended, and this was told.
        self.over = False
        #: Set by whoever runs the upstream: end the stream in this error.
        self.on_torn: Callable[[HeadraceError], None] | None = None
        #: Times that a reader came back.
        self.resumes = 0
        #: Readers' comings and goings, in monotonic seconds: left, resumed, taken_over.
        self.turns: list[tuple[float, str]] = []
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None
        stream.attach(self)
        stream.when_ended(self._ended)

    @property
    def detached(self) -> bool:
        """It runs on, and nobody reads."""
        return self.stream.state is StreamState.DETACHED

    @property
    def read_out(self) -> bool:
        """It is over, and its reader has all of it."""
        return self.stream.state.ended and self.ring.sent == self.ring.last

    # For transports

    def first(self) -> Reading:
        """Return the reading of the client that asked for the stream, from its first event on."""
        self._reading = reading = Reading(self, fresh=True)
        return reading

    def read(self, after: int, *, relayed: bool = False) -> Reading:
        """Return a reading of what follows event `after`; whoever was reading is told that it was taken over.

        Args:
            after: the last event that the reader has; 0 = none.
            relayed: the reader is another instance, which judges its client's pace itself and takes bytes in gulps.

        Raises:
            HeadraceError: GONE or INVALID_REQUEST, see `Ring.rewind`; the present reader goes on.
        """
        self.ring.rewind(after)
        old, self._reading = self._reading, None
        if old is not None:
            text = "Another reader has taken this stream over; the newest one gets it."
            old.end(HeadraceError(Code.TAKEN_OVER, text))
        self._keep_on()
        if self.detached:
            self.stream.move(StreamEvent.ATTACH)
        self.resumes += 1
        self._turn("resumed" if old is None else "taken_over")
        self._keeper.resumed(takeover=old is not None)
        self._reading = reading = Reading(self, relayed=relayed)
        self.relieved()
        return reading

    def stop(self) -> None:
        """End it at once, as its owner asked: the upstream is cancelled and nothing is kept."""
        self.stream.gone(cause="stopped")
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.end(HeadraceError(Code.STOPPED, "This stream was stopped, as its owner asked."))
        self.release()

    def release(self) -> None:
        """Give everything back; the last call."""
        self._keep_on()
        self.ring.clear()
        self._keeper.released(self)
        self.on_torn = None
        self.stream.close()

    # For its reading

    def relieved(self) -> None:
        """Something was taken from the ring: read from a paused upstream again if there is room."""
        if self._full and self.ring.roomy:
            self._full = False
            if self.on_resume is not None:
                self.on_resume()

    def left(self, reading: Reading) -> None:
        """A reader is gone, or has read to the end."""
        if self._reading is not reading:
            return
        self._reading = None
        if reading.unknown:
            # Nobody was told the id, so nobody can come back.
            self.stream.gone()
            self.release()
            return
        if self.stream.state is StreamState.COMMITTED:
            self.stream.move(StreamEvent.DETACH)
            self._turn("left")
        self._wait()

    # Outlet, for the stream

    def write(self, data: bytes) -> bool:
        """Keep whole events, and send them on to a reader that is up to date; False = the ring is full.

        Comments are for whoever reads now, and have no number.
        """
        reading = self._reading
        if data.startswith(_COMMENT):
            if reading is not None:
                reading.comment(data)
            return not self._full
        last_words = data.endswith(DONE) or self.stream.error is not None
        if self._torn and last_words and self.stream.error is None:
            data = _OUT_OF_MEMORY.frame() + DONE  # the answer has a gap, and must not look whole (law 5)
        if (self._torn and not last_words) or not self.ring.append(data, last_words=last_words):
            if not self._torn:
                self._torn = True
                self._loop.call_soon(self._tear)
            return True
        if reading is not None:
            reading.pump()
        if not self._full:
            self._full = self.ring.full
        return not self._full

    @property
    def unsent_bytes(self) -> int:
        """Bytes that no reader has been sent."""
        return self.ring.unsent_bytes

    def abort(self) -> None:
        """Unused: a kept stream has no patience of its own, its readings have."""

    # Inside

    def _turn(self, what: str) -> None:
        if len(self.turns) < _TURNS:
            self.turns.append((monotonic(), what))

    def _tear(self) -> None:
        if self.on_torn is not None and not self.stream.state.ended:
            self.on_torn(_OUT_OF_MEMORY)

    def _ended(self) -> None:
        self.over = True
        if self._reading is not None:
            self._reading.pump()
        elif self._window is not None:
            self._keeper.spare(self, yes=True)

    def _wait(self) -> None:
        """Nobody reads: the window begins."""
        self._window = self._loop.call_later(self.timings.window_s, self._expire)
        if self.stream.state.ended:
            self._keeper.spare(self, yes=True)

    def _keep_on(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._window = None
        self._keeper.spare(self, yes=False)

    def _expire(self) -> None:
        self._window = None
        self._keeper.expired()
        self.stream.gone(StreamEvent.EXPIRE, "expired")
        self.release()
