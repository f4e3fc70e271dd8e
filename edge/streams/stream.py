"""A live stream: all of the client's side of a request, from its arrival to its end.

The relay pushes events in at the top; bytes leave through an outlet at the bottom. The stream owns heartbeats, the
commit deadline and the pause of a slow reader. `upstream` is whatever attempt is to be paused.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from time import monotonic

import msgspec

from edge.protocol.states import StreamEvent, StreamState, next_stream
from edge.streams.backlog import Backlog
from edge.streams.contracts import Attempt, Outlet, Reply
from edge.streams.meters import StreamMeters
from edge.streams.pace import Pace
from edge.streams.quiet import Quiet
from edge.streams.slow_reader import SlowReader
from streamkit.ops.metric import GAP
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import DONE
from streamkit.wire.sse import heartbeat

__all__ = ["Stream", "StreamTimings"]


class StreamTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of the client's side, in seconds."""

    heartbeat_s: float
    commit_after_s: float
    slow_reader_s: float


class Stream(Pace):
    """One request's client side.

    Args:
        request_id: echoed to the client, key of the log line.
        streaming: an event stream; otherwise one whole `Reply`.
        timings: deadlines.
        meters: the series to count into.
        kept: resumable: its outlet is a `Kept`.
    """

    __slots__ = (
        "_backlog", "_committed", "_decided", "_ended", "_heartbeat", "_loop", "_meters", "_outlet", "_patience_s",
        "_ping", "_timings", "_write", "began", "cause", "error", "events", "on_gone", "reply",
        "request_id", "slow", "state", "streaming", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        request_id: str,
        streaming: bool,
        timings: StreamTimings,
        meters: StreamMeters,
        kept: bool = False,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._timings = timings
        self._meters = meters
        self.request_id = request_id
        self.streaming = streaming
        self.state = StreamState.PENDING
        self.began = monotonic()
        self.events = 0
        self.error: HeadraceError | None = None
        #: How its client was lost, if it was.
        self.cause = ""
        self.reply: Reply | None = None
        self.upstream: Attempt | None = None
        #: Set by the relay: the client is gone, stop the upstream.
        self.on_gone: Callable[[], None] | None = None
        self._outlet: Outlet | None = None
        self._backlog = Backlog()
        self._write: Callable[[bytes], bool] = self._backlog.write
        self._committed = False
        self.slow: SlowReader | None = None  #: What is known of a reader that was too slow at times.
        self._patience_s = None if kept else timings.slow_reader_s
        self._ping = heartbeat(ids=kept)
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
            gap = now - self.last_s
            self.last_s = now
            self._gap_counts[bisect_left(GAP, gap)] += 1
            self._gaps += 1
            self._gap_squares += gap * gap
            if gap > self.longest_s:  # noqa: PLR1730 - max() is a call, and this is the hot path
                self.longest_s = gap
        else:
            self._first(now)
        self.events += count

    def commit(self) -> None:
        """Owe the client a 200 and an event stream from now on, unless the end was quicker."""
        if self.state is StreamState.PENDING:
            self.move(StreamEvent.COMMIT)
            self._committed = True
            if not self._decided.done():
                self._decided.set_result(None)

    def move(self, event: StreamEvent) -> None:
        """Change the state; readers of a kept stream come and go so."""
        self.state = next_stream(self.state, event)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call once the end has come, in a later turn of the loop."""
        self._ended.add_done_callback(lambda _: call())

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
        return self.slow is not None and self.slow.paused

    @property
    def paused_s(self) -> float:
        """Seconds that the upstream was paused."""
        return self.slow.paused_s if self.slow is not None else 0.0

    @property
    def committed(self) -> bool:
        """Whether the client is owed a 200 and an event stream, even if that has ended since."""
        return self._committed

    @property
    def backlog_bytes(self) -> int:
        """Bytes held because headers are not out yet."""
        return self._backlog.size_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes written that the client has not acknowledged, as far as its outlet can tell; for scrapes."""
        return self._backlog.size_bytes + (self._outlet.unsent_bytes if self._outlet is not None else 0)

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
        held = self._backlog.take()
        taken = outlet.write(held) if held else True
        self._write = _drop if self.state.ended else outlet.write
        if taken:
            self._resume()
        else:
            self._pause()

    def gone(self, event: StreamEvent = StreamEvent.CANCEL, cause: str = "") -> None:
        """The client closed its connection, or half of it; or whatever else ends the stream with nobody told."""
        if self.state.ended:
            return
        self.cause = cause or getattr(self._outlet, "cause", "client")  # an outlet may know better
        self._end(event)
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
        self.begin(now)
        self._meters.ttft.observe(now - self.began)
        self.commit()
        if self._heartbeat is not None:
            self._heartbeat.restart(self._timings.heartbeat_s)

    def _beat(self) -> None:
        """Silence for too long, unless there was a read: commit if that is still to be done, and say that we live."""
        silence_s = self._timings.heartbeat_s
        rest_s = self.last_s + silence_s - monotonic() if self.first_s else 0.0
        if rest_s <= 0:
            rest_s = silence_s
            self.commit()
            if not self.paused:
                self._meters.heartbeats.value += 1
                self._write(self._ping)
        if self._heartbeat is not None:
            self._heartbeat.restart(rest_s)

    def _pause(self) -> None:
        if self.state.ended:
            return
        if self.slow is None:
            self.slow = SlowReader(self._loop, self._patience_s, self._stuck)
        if self.slow.pause(self._outlet):
            self._meters.pauses.value += 1
            if self.upstream is not None:
                self.upstream.pause()

    def _resume(self) -> None:
        if self.slow is not None and self.slow.resume() and self.upstream is not None and not self.state.ended:
            self.upstream.resume()

    def _stuck(self) -> None:
        """The reader has taken nothing for too long: cut it."""
        self.cause = "slow_reader"
        silence = f"{self._timings.slow_reader_s:g} s"
        self.error = HeadraceError(Code.SLOW_READER, f"The reader took nothing for {silence}; the stream was cut.")
        self._end(StreamEvent.FAIL)
        if self._outlet is not None:
            self._outlet.abort()
        if self.on_gone is not None:
            self.on_gone()

    def _end(self, event: StreamEvent) -> None:
        self.move(event)
        for timer in (self._heartbeat, self.slow):
            if timer is not None:
                timer.stop()
        self._heartbeat = None
        # Nothing follows the end, whatever an engine still sends.
        self._write = _drop
        for future in (self._decided, self._ended):
            if not future.done():
                future.set_result(None)


def _drop(_: bytes) -> bool:
    """Take bytes that nobody reads any more; a function, because a bound method would be a cycle."""
    return True
