"""Our HTTP/1.1 protocol class, in one module because it is one state machine over uvicorn's own.

Changes against `uvicorn.protocols.http.httptools_impl` 0.54.0 (pinned; tests/integration/test_server_contract.py):

- the writer extension, injected when a request's task starts and not when its headers were parsed;
- a client that closes, or half-closes, while an answer is owed to it is gone at once;
- a pipelined request never pauses reading, or the client's disconnect would go unseen; what follows a request is kept
  up to a bound, and beyond it the connection is closed;
- header bytes, and the time for headers and body, are bounded; no timer runs while the client waits for us;
- refusals are OpenAI envelopes, and a close never overtakes them as a reset: our half is closed first, and what the
  client still sends is read and dropped for a while (RFC 9112 §9.6);
- a request that offers an upgrade keeps its body (Java's HttpClient offers h2c with every first request).
"""

from __future__ import annotations

import asyncio
import enum
import socket
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from edge.server.cycle import Cycle
from edge.server.limits import ServerLimits
from edge.server.refusal import name_of, refusal_of, unreadable, written
from edge.server.sockets import cut, tune
from edge.server.upgrade import WEBSOCKET, offered, refuse_websocket, replayed
from edge.server.writer import EXTENSION, Writer
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

__all__ = ["EdgeProtocol", "ServerLimits", "protocol_class"]

#: Whole requests parsed out of one read behind the one that is being answered.
_MAX_PIPELINED: Final = 32
#: After a refusal: how long a client may be silent, and how long it may go on sending, before we close.
_LINGER_QUIET_S: Final = 2.0
_LINGER_S: Final = 30.0


class _Phase(enum.Enum):
    """Where the parser is."""

    BETWEEN = "between"  #: no byte of a request is here
    HEADERS = "headers"
    BODY = "body"


class EdgeProtocol(HttpToolsProtocol):
    """One client connection. Make the class with `protocol_class`, which sets `limits`."""

    limits: ServerLimits

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._running: Cycle | None = None
        self._writer: Writer | None = None
        self._phase = _Phase.BETWEEN
        self._header_bytes = 0
        #: Bytes fed since the parser last gave anything back: what it may be holding.
        self._held_bytes = 0
        self._moved = False
        self._behind = bytearray()
        #: Nothing more is parsed; what comes is counted and dropped.
        self._deaf = False
        self._dropped = 0
        #: A refusal that waits for the answers before it.
        self._owed: HeadraceError | None = None
        self._replay = b""
        self._replaying = False
        self._deadline: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self.limits
        transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_high_bytes // 4)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock, user_timeout_ms=limits.user_timeout_ms, notsent_bytes=limits.notsent_bytes)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._gone()
        for cycle, _ in self.pipeline:
            cycle.on_response = _nothing  # it never ran, and would hold us
        self.pipeline.clear()
        self._behind.clear()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it after a reset
        self.cycle = None  # type: ignore[assignment]

    def eof_received(self) -> None:
        if self._running is not None:
            # Law 6: half a close counts. What is unsent is for nobody.
            self._gone()
            cut(self.transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writer is not None:
            self._writer.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writer is not None:
            self._writer.resume()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._drop(data)
        elif self._behind or self._answering():
            self._keep(data)
        else:
            self._parse(data)

    # uvicorn

    def shutdown(self) -> None:
        if self._running is None:
            self.transport.close()
        else:
            self._running.keep_alive = False

    def on_response_complete(self) -> None:
        cycle, self._running = self._running, None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if cycle is not None and cycle.closes:
            self.server_state.total_requests += 1
            self._close(unread=cycle.more_body or self._deaf or bool(self._behind) or bool(self.pipeline))
        elif self._owed is not None and not self.pipeline:
            self.server_state.total_requests += 1
            self._refuse(self._owed)
        else:
            super().on_response_complete()
            if self._behind or self._phase is not _Phase.BETWEEN:
                self._unset_keepalive_if_required()
                self._arm()
            if self._behind:
                self.loop.call_soon(self._feed_behind)

    # httptools

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        super().on_message_begin()
        self._phase = _Phase.HEADERS
        self._header_bytes = 0
        self._moved = True
        self._arm()

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            self._count_header(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._replaying:
            self._count_header(len(name) + len(value) + 4)
            if self._phase is _Phase.HEADERS:  # trailers are nobody's
                super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._replaying:
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise HeadraceError(Code.TOO_LARGE, f"More than {_MAX_PIPELINED} requests are pipelined.")
        if (version := self.parser.get_http_version()) not in ("1.1", "1.0"):
            raise HeadraceError(Code.INVALID_REQUEST, f"HTTP/{version} is not spoken here, only 1.1 and 1.0.")
        if not self.url.startswith(b"/") and httptools.parse_url(self.url).path is None:
            raise HeadraceError(Code.INVALID_REQUEST, "The request's target has no path.")
        if self.parser.should_upgrade():
            if offered(self.headers) == WEBSOCKET:
                self.scope["extensions"] = {"headrace.websocket": {}}
            else:
                self._replay = replayed(self.headers)
        self._phase = _Phase.BODY
        self._moved = True
        super().on_headers_complete()
        if version == "1.0":
            self.cycle.waiting_for_100_continue = False
        self._arm()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._replaying or self._replay:
            return
        self._phase = _Phase.BETWEEN
        self._moved = True
        self._disarm()
        super().on_message_complete()

    # Requests and their answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # uvicorn names its cycle's class in the middle of a long method; the instance has no slots.
        cycle.__class__ = Cycle
        writer = Writer(self.transport, chunked=cycle.scope["http_version"] != "1.0", paused=self.flow.write_paused)
        extensions: dict[str, Any] = dict(cycle.scope.get("extensions") or {})
        if "headrace.websocket" in extensions:
            app = refuse_websocket
        extensions[EXTENSION] = writer
        cycle.scope["extensions"] = extensions
        self._running = cycle  # type: ignore[assignment]
        self._writer = writer
        super()._start_asgi_task(cycle, app)

    def _answering(self) -> bool:
        """A whole request is in hand and its answer is not finished."""
        return self._running is not None and not self._running.more_body

    def _gone(self) -> None:
        """Nobody is there any more to be answered."""
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            # uvicorn marks the cycle that was parsed last, which behind a pipeline is another one.
            running.disconnected = True
            running.message_event.set()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.disconnected()

    # What comes in

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as exc:
            self._reject(refusal_of(exc.__context__))
        except httptools.HttpParserError as exc:
            self._reject(unreadable(data, exc))
        if self.transport.is_closing() or self._deaf:
            return
        if self.pipeline:
            # A second request came in the same read. uvicorn's pause would hide a disconnect.
            self.flow.resume_reading()
        self._held_bytes = 0 if self._moved else self._held_bytes + len(data)
        if self._held_bytes > self.limits.max_header_bytes:
            self._reject(self._too_large())
        elif self._deadline is None:
            self._arm()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if "headrace.websocket" in (self.scope.get("extensions") or {}):
                self._deaf = True
                return
            # httptools takes the message for finished and its body for another protocol's.
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            if self._replay:
                head, self._replay = self._replay, b""
                self._replaying = True
                self.parser.feed_data(head)
                self._replaying = False
            if rest := data[upgrade.args[0] :]:
                self._feed(rest)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self.limits.max_header_bytes:
            raise self._too_large()

    def _too_large(self) -> HeadraceError:
        limit = self.limits.max_header_bytes
        text = f"The request's headers are larger than max_header_bytes = {limit}."
        return HeadraceError(Code.HEADERS_TOO_LARGE, text)

    def _keep(self, data: bytes) -> None:
        self._behind += data
        if len(self._behind) > self.limits.max_pipelined_bytes:
            self.logger.info("closing a connection that pipelines more than %d bytes", len(self._behind))
            cut(self.transport)

    def _feed_behind(self) -> None:
        if self._behind and not self._answering() and not self._deaf and not self.transport.is_closing():
            data = bytes(self._behind)
            self._behind.clear()
            self._parse(data)

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._running is not None and self._dropped > self.limits.max_pipelined_bytes:
            cut(self.transport)

    # Deadlines and endings

    def _arm(self) -> None:
        """Give the client its time for what we wait for; none runs while the client waits for us."""
        self._disarm()
        if not self._answering():
            seconds = self.limits.body_s if self._phase is _Phase.BODY else self.limits.header_s
            self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._phase is _Phase.BETWEEN:
            self.transport.close()  # nothing was asked: nothing to answer
            return
        seconds = self.limits.body_s if self._phase is _Phase.BODY else self.limits.header_s
        text = f"The request's {self._phase.value} took longer than {seconds:g} s."
        self._refuse(HeadraceError(Code.REQUEST_TIMEOUT, text))

    def _reject(self, error: HeadraceError) -> None:
        """Refuse what was just read, after the answers that are owed for what came before it."""
        self._deaf = True
        if self._answering():
            self._owed = error
            if self._phase is _Phase.BODY and self.pipeline:
                cycle, _ = self.pipeline.popleft()  # the one at fault will never be whole
                cycle.on_response = _nothing
        else:
            self._refuse(error)

    def _refuse(self, error: HeadraceError) -> None:
        """Answer in the application's place, and close."""
        if self.transport.is_closing():
            return
        if self._running is not None and self._running.response_started:
            # Bytes of a refusal in the middle of another answer would corrupt it.
            cut(self.transport)
            return
        name = name_of(self.headers) if self._phase is _Phase.BODY else b""
        self._gone()
        self.transport.write(written(error, self.server_state.default_headers, name))
        self._close(unread=True)

    def _close(self, *, unread: bool) -> None:
        """Close after what was written; `unread`: the client may still be sending."""
        self._disarm()
        self._unset_keepalive_if_required()
        if not unread:
            self.transport.close()
            return
        self._deaf = True
        self._dropped = 0
        self._behind.clear()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger(self.loop.time() + _LINGER_S)

    def _linger(self, until: float, seen: int = -1) -> None:
        """Drop what comes while it comes; a client that has read our end closes long before."""
        self._deadline = None
        if seen == self._dropped or self.loop.time() > until:
            self.transport.close()
        else:
            self._deadline = self.loop.call_later(_LINGER_QUIET_S, self._linger, until, self._dropped)


def protocol_class(limits: ServerLimits) -> type[EdgeProtocol]:
    """Return the protocol class to give to uvicorn's `http=`, with these limits."""
    return type("EdgeProtocol", (EdgeProtocol,), {"limits": limits})


def _nothing() -> None:
    return
