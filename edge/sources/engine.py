"""The source for engines that speak the OpenAI wire format: a connection per stream."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from edge.sources.connection import Connection, Head
from edge.sources.pool import ConnectError, Pool
from edge.streams.contracts import Ending, Outcome, Sink, UpstreamRequest
from edge.streams.quiet import Quiet
from streamkit.flow.budget import Account
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import Candidate
from streamkit.wire.sse import CONTENT_TYPE, EventSplitter, EventTooLargeError

__all__ = ["EngineLimits", "EngineSource"]

_LOG = logging.getLogger("headrace.edge.sources")
#: How much of a refusal's body is worth keeping.
_REFUSAL_BYTES: Final = 64 * 1024
#: An engine that goes on after a close is waited for no longer than this.
_LINGER_S: Final = 600.0


class EngineLimits:
    """Bounds on what an engine may send, in bytes."""

    __slots__ = ("max_event_bytes", "max_response_bytes")

    def __init__(self, *, max_event_bytes: int, max_response_bytes: int) -> None:
        self.max_event_bytes = max_event_bytes
        self.max_response_bytes = max_response_bytes


class EngineSource:
    """Opens upstreams to one backend, each on a connection of its own."""

    def __init__(self, candidate: Candidate, pool: Pool, limits: EngineLimits, answers: Account) -> None:
        self._candidate = candidate
        self._pool = pool
        self._limits = limits
        self._answers = answers
        self._authorization = (
            b"authorization: Bearer %b\r\n" % candidate.api_key.encode() if candidate.api_key else b""
        )

    def open(self, request: UpstreamRequest, sink: Sink) -> Exchange:
        """Begin an attempt; see `Source.open`."""
        exchange = Exchange(sink, request, self._candidate, self._limits, self._answers, head=self._head(request))
        connection = self._pool.take()
        if connection is not None:
            exchange.begin(connection)
        else:
            exchange.connect(self._pool)
        return exchange

    def _head(self, request: UpstreamRequest) -> bytes:
        extra = b"".join(b"%b: %b\r\n" % header for header in request.headers)
        return (
            b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"accept: %b\r\n%b%b\r\n"
            % (
                self._pool.prefix,
                request.path,
                self._pool.authority,
                len(request.body),
                CONTENT_TYPE if request.stream else b"application/json",
                self._authorization,
                extra,
            )
        )


class Exchange:
    """One request and its response: the `Attempt` that `EngineSource.open` returns."""

    __slots__ = (
        "_answers",
        "_body",
        "_body_bytes",
        "_cancelled",
        "_cancels_on_close",
        "_connecting",
        "_connection",
        "_content_type",
        "_error",
        "_head",
        "_limits",
        "_linger",
        "_name",
        "_paused",
        "_request",
        "_reused",
        "_sink",
        "_splitter",
        "_status",
    )

    def __init__(
        self,
        sink: Sink,
        request: UpstreamRequest,
        candidate: Candidate,
        limits: EngineLimits,
        answers: Account,
        *,
        head: bytes,
    ) -> None:
        cancels = candidate.capabilities.cancels_on_close
        self._name = candidate.backend
        self._sink: Sink | None = sink
        self._request: UpstreamRequest | None = request
        self._limits = limits
        self._answers = answers
        self._head = head
        self._cancels_on_close = cancels.stream if request.stream else cancels.nonstream
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._splitter: EventSplitter | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._status = 0
        self._content_type = b""
        self._error: HeadraceError | None = None
        self._cancelled = False
        self._reused = False
        self._paused = False
        self._linger: Quiet | None = None

    # Attempt

    def pause(self) -> None:
        """Stop reading from the engine."""
        self._paused = True
        if self._connection is not None and not self._cancelled:
            self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    def cancel(self) -> None:
        """Give up: close, or where the engine would go on regardless, read its answer to the end and drop it."""
        if self._cancelled or self._sink is None:
            return
        self._cancelled = True
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._connection is not None:
            if self._cancels_on_close:
                self._connection.abort()
            else:
                self._splitter = None
                self._drop_body()
                self._connection.resume()
                self._linger = Quiet(asyncio.get_running_loop(), _LINGER_S, self._connection.abort)

    # Connecting

    def connect(self, pool: Pool) -> None:
        """Make a new connection and begin on it."""
        self._connecting = asyncio.get_running_loop().create_task(pool.connect())
        # A callback and not a task around it: none of a task's code runs when it is cancelled before its first step.
        self._connecting.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if task.cancelled():
            self._end(Ending.CANCELLED)
        elif (exc := task.exception()) is None:
            if self._cancelled:
                task.result().close()
                self._end(Ending.CANCELLED)
            else:
                self.begin(task.result())
        else:
            if not isinstance(exc, ConnectError):
                _LOG.error("connecting to an engine failed", exc_info=exc)
            why = exc if isinstance(exc, ConnectError) else "the gateway failed"
            self._error = HeadraceError(Code.BACKEND_ERROR, f"The backend {self._name} cannot be reached: {why}.")
            self._end(Ending.BROKEN)

    def begin(self, connection: Connection) -> None:
        """Send the request on `connection`."""
        request, self._request = self._request, None
        if request is None or self._sink is None:
            return
        self._connection = connection
        self._reused = connection.used > 0
        if request.stream:
            self._splitter = EventSplitter(self._limits.max_event_bytes, one_choice=request.one_choice)
        self._sink.sent()
        connection.begin(self, self._head, request.body)
        self._head = b""
        if self._paused:
            connection.pause()

    # Taker

    def on_head(self, head: Head) -> None:
        """Decide how the body is read: as events, or whole."""
        self._status = head.status
        self._content_type = head.content_type
        events = head.status == 200 and head.content_type[: len(CONTENT_TYPE)].lower() == CONTENT_TYPE
        if self._splitter is not None and not events:
            self._splitter = None

    def on_body(self, data: bytes) -> None:
        """Deliver the events that are whole now: the hot path."""
        splitter = self._splitter
        if splitter is not None:
            try:
                batch = splitter.push(data)
            except EventTooLargeError as exc:
                self._fail(HeadraceError(Code.EVENT_TOO_LARGE, f"The backend {self._name} sent too much: {exc}."))
                return
            if batch is not None and self._sink is not None:
                self._sink.feed(batch)
        elif not self._cancelled:
            self._collect(data)

    def on_complete(self) -> None:
        """The response ended as HTTP says it must."""
        self._connection = None
        if self._error is not None:
            # Refused by a bound of ours in the very read that ended it: no whole answer was kept.
            self._end(Ending.BROKEN)
        elif self._splitter is not None:
            self._end(Ending.END)
        else:
            self._end(Ending.ANSWER)

    def on_broken(self, reason: str) -> None:
        """The connection failed before the end."""
        connection, self._connection = self._connection, None
        if self._error is None:
            text = f"The answer of the backend {self._name} broke off: {reason}."
            self._error = HeadraceError(Code.STREAM_BROKEN, text)
        answered = connection is not None and connection.answered
        self._end(Ending.BROKEN, stale=self._reused and not answered)

    # Inside

    def _collect(self, data: bytes) -> None:
        """Keep a piece of a whole answer, within its bound and the process's budget."""
        limit = self._limits.max_response_bytes if self._status < 400 else _REFUSAL_BYTES
        if self._status >= 400:
            data = data[: limit - self._body_bytes]  # the beginning of a refusal is enough
        size = len(data)
        if self._body_bytes + size > limit:
            text = f"The answer of the backend {self._name} is larger than max_response_bytes = {limit}."
            self._fail(HeadraceError(Code.BACKEND_ERROR, text))
        elif not self._answers.reserve(size):
            self._fail(
                HeadraceError(Code.OUT_OF_MEMORY, "The gateway's memory budget is used up. Try again shortly.")
            )
        else:
            self._body_bytes += size
            self._body.append(data)

    def _drop_body(self) -> None:
        self._answers.release(self._body_bytes)
        self._body_bytes = 0
        self._body.clear()

    def _fail(self, error: HeadraceError) -> None:
        self._error = error
        self._splitter = None
        self._drop_body()
        if self._connection is not None:
            self._connection.abort()

    def _end(self, ending: Ending, *, stale: bool = False) -> None:
        sink, self._sink = self._sink, None
        if self._linger is not None:
            self._linger.stop()
            self._linger = None
        if sink is None:
            self._drop_body()
            return
        if self._cancelled:
            ending = Ending.CANCELLED
        broken = ending is Ending.BROKEN
        sink.end(
            Outcome(
                ending=ending,
                status=self._status,
                content_type=self._content_type,
                body=b"".join(self._body) if ending is Ending.ANSWER else b"",
                error=self._error if broken else None,
                stale=stale and broken,
            )
        )
        self._splitter = None
        self._drop_body()
