"""A live stream, long because all of the client's side of a request moves one state, from its arrival to its end.

The relay pushes events in at the top; bytes leave through an outlet at the bottom. The stream owns heartbeats, the
commit deadline, the pause of a slow reader, and the one future that the request's task waits on. It knows nothing of
backends: `upstream` is whatever attempt is to be paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from edge.protocol.states import StreamEvent, StreamState, next_stream
from edge.streams.contracts import Attempt, Outlet, Reply
from edge.streams.meters import StreamMeters
from edge.streams.quiet import Quiet
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import DONE
from streamkit.wire.sse import heartbeat

__all__ = ["Stream", "StreamTimings"]

#: Held while headers cannot go out, because the client has not read an earlier answer on its connection.
_BACKLOG_BYTES: Final = 64 * 1024


class StreamTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of the client's side, in seconds."""

    heartbeat_s: float
    commit_after_s: float
    slow_reader_s: float


class Stream:
    """One request's client side.

    Args:
        request_id: echoed to the client, key of the log line.
        streaming: an event stream; otherwise one whole `Reply`.
        timings: deadlines.
        meters: the series to count into.
    """

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_committed",
        "_decided",
        "_ended",
        "_heartbeat",
        "_last_fed",
        "_loop",
        "_meters",
        "_outlet",
        "_paused_at",
        "_reader",
        "_timings",
        "_unsent_seen",
        "_write",
        "began",
        "error",
        "events",
        "first_event_at",
        "longest_gap_s",
        "on_gone",
        "paused_s",
        "reply",
        "request_id",
        "state",
        "streaming",
        "upstream",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        request_id: str,
        streaming: bool,
        timings: StreamTimings,
        meters: StreamMeters,
    ) -> None:
        self._loop = loop
        self._timings = timings
        self._meters = meters
        self.request_id = request_id
        self.streaming = streaming
        self.state = StreamState.PENDING
        self.began = self._last_fed = monotonic()
        self.first_event_at = 0.0
        self.events = 0
        self.longest_gap_s = 0.0
        self.paused_s = 0.0
        self.error: HeadraceError | None = None
        self.reply: Reply | None = None
        self.upstream: Attempt | None = None
        #: Set by the relay: the client is gone, stop the upstream.
        self.on_gone: Callable[[], None] | None = None
        self._outlet: Outlet | None = None
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._write: Callable[[bytes], bool] = self._hold
        self._committed = False
        self._paused_at = 0.0
        self._unsent_seen = 0
        self._reader: Quiet | None = None
        self._decided: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._heartbeat: Quiet | None = None
        if streaming:
            self._heartbeat = Quiet(loop, timings.commit_after_s, self._beat)

    # For the relay

    def feed(self, data: bytes, count: int, now: float) -> None:
        """Send whole events to the client: the hot path.

        Args:
            data: the events' bytes.
            count: how many events they are.
            now: `monotonic()` of the read that brought them.
        """
        if not self._write(data):
            self._pause()
        if self.events:
            gap = now - self._last_fed
            self._meters.gap.observe(gap)
            if gap > self.longest_gap_s:  # noqa: PLR1730 - max() is a call, and this is the hot path
                self.longest_gap_s = gap
        else:
            self._first(now)
        self.events += count
        self._last_fed = now
        if self._heartbeat is not None:
            self._heartbeat.last = now

    def finish(self) -> None:
        """End the stream well: the engine's own end has been fed."""
        self._end(StreamEvent.FINISH)

    def answer(self, reply: Reply, error: HeadraceError | None = None) -> None:
        """End a request that has been sent nothing with one whole answer."""
        self.reply = reply
        self.error = error
        self._end(StreamEvent.FAIL if error is not None or reply.status >= 400 else StreamEvent.FINISH)

    def fail(self, error: HeadraceError, frame: bytes | None = None) -> None:
        """End in an error: an HTTP status if nothing was sent, else an error frame and `[DONE]` (law 5).

        Args:
            error: what the log and the counters say, and the client too.
            frame: the engine's own error frame, to be sent in place of ours.
        """
        if self.state.ended:
            return
        self.error = error
        if self.state is StreamState.PENDING:
            headers = tuple(error.headers())
            self.reply = Reply(status=error.wire.status, body=error.envelope(), headers=headers)
        else:
            self._write((frame or error.frame()) + DONE)
        self._end(StreamEvent.FAIL)

    # For the transport

    @property
    def paused(self) -> bool:
        """The reader is too slow just now and the upstream is paused."""
        return self._paused_at > 0.0

    @property
    def committed(self) -> bool:
        """Whether the client is owed a 200 and an event stream, even if that has ended since."""
        return self._committed

    @property
    def backlog_bytes(self) -> int:
        """Bytes held because headers are not out yet."""
        return self._backlog_bytes

    async def decided(self) -> None:
        """Wait until the stream is committed or ended; the first decides what the status line says."""
        await self._decided

    async def ended(self) -> None:
        """Wait for the end."""
        await self._ended

    def attach(self, outlet: Outlet) -> None:
        """Let bytes flow to `outlet`: what was held goes first, in one write, and nothing can come between."""
        self._outlet = outlet
        if self.error is not None and self.error.code is Code.SLOW_READER:
            # Cut before its headers could go out: what is held must not look like a whole answer (law 5).
            outlet.abort()
            return
        outlet.on_resume = self._resume
        held = b"".join(self._backlog)
        self._backlog.clear()
        self._backlog_bytes = 0
        taken = outlet.write(held) if held else True
        self._write = _drop if self.state.ended else outlet.write
        if not taken:
            self._unsent_seen = outlet.unsent_bytes
            self._pause()
        elif self._paused_at:
            self._resume()

    def gone(self) -> None:
        """The client closed its connection, or half of it."""
        if self.state.ended:
            return
        self._end(StreamEvent.CANCEL)
        if self.on_gone is not None:
            self.on_gone()

    def close(self) -> None:
        """Break every cycle; the last call."""
        self.on_gone = None
        self.upstream = None
        if self._outlet is not None:
            self._outlet.on_resume = self._outlet.on_pause = self._outlet.on_disconnect = None
            self._outlet = None
        self._write = _drop

    # Inside

    def _first(self, now: float) -> None:
        self.first_event_at = now
        self._meters.ttft.observe(now - self.began)
        if self.state is StreamState.PENDING:
            self._commit()
        if self._heartbeat is not None:
            self._heartbeat.restart(self._timings.heartbeat_s)

    def _commit(self) -> None:
        self.state = next_stream(self.state, StreamEvent.COMMIT)
        self._committed = True
        if not self._decided.done():
            self._decided.set_result(None)

    def _hold(self, data: bytes) -> bool:
        # Headers mostly go out in the very next turn of the loop.
        self._backlog.append(data)
        self._backlog_bytes += len(data)
        return self._backlog_bytes <= _BACKLOG_BYTES

    def _beat(self) -> None:
        """Silence for too long: commit if that is still to be done, and say that we are alive."""
        if self.state is StreamState.PENDING:
            self._commit()
        if not self.paused:
            self._meters.heartbeats.value += 1
            self._write(heartbeat(ids=False))
        if self._heartbeat is not None:
            self._heartbeat.restart(self._timings.heartbeat_s)

    def _pause(self) -> None:
        if self._paused_at or self.state.ended:
            return
        self._paused_at = monotonic()
        self._meters.pauses.value += 1
        if self.upstream is not None:
            self.upstream.pause()
        self._unsent_seen = self._outlet.unsent_bytes if self._outlet is not None else 0
        if self._reader is None:
            self._reader = Quiet(self._loop, self._timings.slow_reader_s, self._stuck)
        else:
            self._reader.restart()

    def _resume(self) -> None:
        if not self._paused_at:
            return
        self.paused_s += monotonic() - self._paused_at
        self._paused_at = 0.0
        if self.upstream is not None and not self.state.ended:
            self.upstream.resume()

    def _stuck(self) -> None:
        """The reader was paused a whole deadline ago: cut it, unless unsent bytes have fallen since."""
        if self._reader is None or not self._paused_at:
            return
        outlet = self._outlet
        if outlet is not None and (unsent := outlet.unsent_bytes) < self._unsent_seen:
            self._unsent_seen = unsent
            self._reader.restart()
            return
        silence = f"{self._timings.slow_reader_s:g} s"
        self.error = HeadraceError(Code.SLOW_READER, f"The reader took nothing for {silence}; the stream was cut.")
        self._end(StreamEvent.FAIL)
        if outlet is not None:
            outlet.abort()
        if self.on_gone is not None:
            self.on_gone()

    def _end(self, event: StreamEvent) -> None:
        self.state = next_stream(self.state, event)
        if self._paused_at:
            self.paused_s += monotonic() - self._paused_at
            self._paused_at = 0.0
        for timer in (self._heartbeat, self._reader):
            if timer is not None:
                timer.stop()
        self._heartbeat = self._reader = None
        # Nothing follows the end, whatever an engine still sends.
        self._write = _drop
        for future in (self._decided, self._ended):
            if not future.done():
                future.set_result(None)


def _drop(_: bytes) -> bool:
    """Take bytes that nobody reads any more; a function, because a bound method would be a cycle."""
    return True
