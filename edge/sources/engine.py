"""The source for engines behind HTTP: a connection per stream, in OpenAI's format or in a dialect of their own."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from edge.protocol.malformed import MalformedError
from edge.sources.answer_body import AnswerBody
from edge.sources.connection import Connection, Head
from edge.sources.dialect import Dialect, Dialects, Splitter, openai
from edge.sources.pool import ConnectError, Pool
from edge.sources.refused import Refused
from edge.streams.contracts import Ending, Outcome, Sink, UpstreamRequest
from edge.streams.quiet import Quiet
from streamkit.flow.budget import Account
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import Candidate
from streamkit.wire.sse import EventTooLargeError

__all__ = ["EngineLimits", "EngineSource"]

_LOG = logging.getLogger("headrace.edge.sources")
#: An engine that goes on after a close is waited for no longer than this.
_LINGER_S: Final = 600.0


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what an engine may send, in bytes."""

    max_event_bytes: int
    max_response_bytes: int


class EngineSource:
    """Opens upstreams to one backend, each on a connection of its own."""

    def __init__(
        self, candidate: Candidate, pool: Pool, limits: EngineLimits, answers: Account, dialect: Dialects = openai
    ) -> None:
        self._candidate = candidate
        self._dialect = dialect
        self._pool = pool
        self._limits = limits
        self._answers = answers
        self._authorization = (
            b"authorization: Bearer %b\r\n" % candidate.api_key.encode() if candidate.api_key else b""
        )

    def open(self, request: UpstreamRequest, sink: Sink) -> Exchange | Refused:
        """Begin an attempt; see `Source.open`."""
        try:
            dialect = self._dialect(request)
        except HeadraceError as error:
            return Refused(sink, error)
        head = self._head(request, dialect)
        exchange = Exchange(sink, request, dialect, self._candidate, self._limits, self._answers, head=head)
        if (connection := self._pool.take()) is not None:
            exchange.begin(connection)
        else:
            exchange.connect(self._pool)
        return exchange

    def _head(self, request: UpstreamRequest, dialect: Dialect) -> bytes:
        extra = b"".join(b"%b: %b\r\n" % header for header in request.headers)
        return (
            b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"accept: %b\r\n%b%b\r\n"
            % (
                self._pool.prefix,
                dialect.path,
                self._pool.authority,
                len(dialect.body),
                dialect.stream_type if request.stream else b"application/json",
                self._authorization,
                extra,
            )
        )


class Exchange:
    """One request and its response: the `Attempt` that `EngineSource.open` returns."""

    __slots__ = (
        "_body",
        "_cancelled",
        "_cancels_on_close",
        "_connecting",
        "_connection",
        "_content_type",
        "_dialect",
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
        dialect: Dialect,
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
        self._dialect = dialect
        self._limits = limits
        self._head = head
        self._cancels_on_close = cancels.stream if request.stream else cancels.nonstream
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._splitter: Splitter | None = None
        self._body = AnswerBody(candidate.backend, limits.max_response_bytes, answers)
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
                self._body.drop()
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
            self._splitter = self._dialect.splitter(self._limits.max_event_bytes)
        self._sink.sent()
        connection.begin(self, self._head, self._dialect.body)
        self._head = b""
        if self._paused:
            connection.pause()

    # Taker

    def on_head(self, head: Head) -> None:
        """Decide how the body is read: as events, or whole."""
        self._status = head.status
        self._content_type = head.content_type
        kind = self._dialect.stream_type
        events = head.status == 200 and head.content_type[: len(kind)].lower() == kind
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
            except MalformedError as exc:
                if exc.before is not None and self._sink is not None:
                    self._sink.feed(exc.before)
                self._fail(self._malformed(exc))
                return
            if batch is not None and self._sink is not None:
                self._sink.feed(batch)
        elif not self._cancelled:
            try:
                self._body.add(data, refusal=self._status >= 400)
            except HeadraceError as error:
                self._fail(error)

    def on_complete(self) -> None:
        """The response ended as HTTP says it must."""
        self._connection = None
        if self._error is not None:
            # Refused by a bound of ours in the very read that ended it: no whole answer was kept.
            self._end(Ending.BROKEN)
        else:
            self._end(Ending.END if self._splitter is not None else Ending.ANSWER)

    def on_broken(self, reason: str) -> None:
        """The connection failed before the end."""
        connection, self._connection = self._connection, None
        if self._error is None:
            text = f"The answer of the backend {self._name} broke off: {reason}."
            self._error = HeadraceError(Code.STREAM_BROKEN, text)
        answered = connection is not None and connection.answered
        self._end(Ending.BROKEN, stale=self._reused and not answered)

    # Inside

    def _malformed(self, exc: MalformedError) -> HeadraceError:
        return HeadraceError(Code.STREAM_BROKEN, f"The answer of the backend {self._name} is malformed: {exc}.")

    def _fail(self, error: HeadraceError) -> None:
        self._error = error
        self._splitter = None
        self._body.drop()
        if self._connection is not None:
            self._connection.abort()

    def _end(self, ending: Ending, *, stale: bool = False) -> None:
        sink, self._sink = self._sink, None
        if self._linger is not None:
            self._linger.stop()
            self._linger = None
        if sink is None:
            self._body.drop()
            return
        if self._cancelled:
            ending = Ending.CANCELLED
        status, body = self._status, b""
        if ending is Ending.ANSWER:
            try:
                status, body = self._dialect.whole(status, self._body.joined())
            except MalformedError as exc:
                ending, self._error = Ending.BROKEN, self._malformed(exc)
        broken = ending is Ending.BROKEN
        sink.end(
            Outcome(
                ending=ending,
                status=status,
                content_type=self._content_type,
                body=body,
                error=self._error if broken else None,
                stale=stale and broken,
            )
        )
        self._splitter = None
        self._body.drop()
