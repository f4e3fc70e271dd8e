"""Our HTTP/1.1 protocol class, in one module because it is one state machine over uvicorn's own.

Changes against `uvicorn.protocols.http.httptools_impl` 0.54.0 (pinned; tests/integration/test_server_contract.py):

- the writer extension, injected when a request's task starts and not when its headers were parsed;
- a client that closes, or half-closes, while an answer is owed to it is gone at once;
- a pipelined request never pauses reading, or the client's disconnect would go unseen; what follows a request is kept
  up to a bound, and beyond it the connection is closed;
- header bytes, and the time for headers and body, are bounded; no timer runs while the client waits for us;
- refusals are OpenAI envelopes, and a close never overtakes them as a reset: our half is closed first, and what the
  client still sends is read and dropped for a while (RFC 9112 §9.6);
- every answer, refusals too, carries what pages of other origins need to read it;
- a request that offers an upgrade keeps its body, and one for WebSocket brings an `Upgrade` to the application.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from edge.protocol.cors import Cors
from edge.server.cycle import Cycle
from edge.server.limits import ServerLimits
from edge.server.linger import Linger
from edge.server.patience import Patience, Phase
from edge.server.refusal import name_of, refusal_of, unreadable, written
from edge.server.sockets import cut, leave, lost_by, tune, unread
from edge.server.tls_writer import writer_of
from edge.server.upgrade import UPGRADE, WEBSOCKET, Upgrade, offered, replayed
from edge.server.writer import EXTENSION, Writer
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

__all__ = ["EdgeProtocol", "ServerLimits", "protocol_class"]

#: Whole requests parsed out of one read behind the one that is being answered.
_MAX_PIPELINED: Final = 32
#: A drain waits so long for the first bytes of a request that may have been on its way when it began.
_LATE_S: Final = 0.25
_CLOSE: Final = (b"connection", b"close")


class EdgeProtocol(HttpToolsProtocol):
    """One client connection. Make the class with `protocol_class`, which sets `limits` and `cors`."""

    limits: ServerLimits
    cors: Cors

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
        self._patience = Patience(self.limits, self.loop, self._too_slow)
        #: Bytes fed since the parser last gave anything back: what it may be holding.
        self._held_bytes = 0
        self._moved = False
        self._behind = bytearray()
        #: Nothing more is parsed; what comes is counted and dropped.
        self._deaf = False
        #: A refusal that waits for the answers before it.
        self._owed: HeadraceError | None = None
        self._replay = b""
        self._replaying = False
        #: It has brought a request, at some time.
        self._asked = False
        #: The service drains: what is answered from now on is the connection's last.
        self._leaving = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = Linger(transport, self.loop)
        limits = self.limits
        transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_high_bytes // 4)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock, user_timeout_ms=limits.user_timeout_ms, notsent_bytes=limits.notsent_bytes)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.close()
        self._end.stop()
        if self._writer is not None:
            self._writer.cause = lost_by(exc)
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

    def _leave(self) -> None:
        if self._running is None and not self.transport.is_closing():
            leave(self.transport, self.loop)

    def shutdown(self) -> None:
        self._leaving = True
        if self._running is not None:
            self._running.keep_alive = False
        elif self._asked and self._patience.phase is Phase.BETWEEN and not unread(self.transport):
            self._leave()
        else:
            # A request is here and not read, or half of it, or on its way behind the connection that was just opened.
            self.loop.call_later(_LATE_S, self._leave)

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
            if self._behind or self._patience.phase is not Phase.BETWEEN:
                self._unset_keepalive_if_required()
                self._arm()
            if self._behind:
                self.loop.call_soon(self._feed_behind)

    # httptools

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        super().on_message_begin()
        self._patience.begin_headers()
        self._moved = self._asked = True
        self._arm()

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            self._patience.count_header(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._replaying:
            self._patience.count_header(len(name) + len(value) + 4)
            if self._patience.phase is Phase.HEADERS:  # trailers are nobody's
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
                self.scope["extensions"] = {UPGRADE: Upgrade(self, self.url)}  # type: ignore[dict-item]
            else:
                self._replay = replayed(self.headers)
        self._patience.phase = Phase.BODY
        self._moved = True
        super().on_headers_complete()
        self.cycle.keep_alive &= UPGRADE not in self.scope.get("extensions", {})  # what follows would be no HTTP
        if version == "1.0":
            self.cycle.waiting_for_100_continue = False
        self._arm()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._replaying or self._replay:
            return
        self._patience.phase = Phase.BETWEEN
        self._moved = True
        self._patience.disarm()
        super().on_message_complete()

    # Requests and their answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # uvicorn names its cycle's class in the middle of a long method; the instance has no slots.
        cycle.__class__ = Cycle
        last = (_CLOSE,) if self._leaving else ()
        cycle.default_headers = [*cycle.default_headers, *last, *self.cors.headers(cycle.scope["headers"])]
        writer = writer_of(self.transport, cycle.scope["http_version"], paused=self.flow.write_paused)
        cycle.scope["extensions"] = {**cycle.scope.get("extensions", {}), EXTENSION: writer}  # type: ignore[dict-item]
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

    def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """Leave the connection to another protocol; return what came behind the request."""
        self.cycle.on_response = _nothing
        self._gone()  # uvicorn expects no answer any more
        self._patience.close()
        self.cycle = None  # type: ignore[assignment]
        self.flow.resume_reading()
        self.connections.discard(self)
        self.connections.add(protocol)  # type: ignore[arg-type]
        self.transport.set_protocol(protocol)
        return bytes(self._behind)

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
            self._reject(self._patience.too_large())
        elif not self._patience.armed:
            self._arm()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if UPGRADE in self.scope.get("extensions", {}):
                self._behind += data[upgrade.args[0] :]
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
        self._end.dropped_bytes += len(data)
        if self._running is not None and self._end.dropped_bytes > self.limits.max_pipelined_bytes:
            cut(self.transport)

    # Deadlines and endings

    def _arm(self) -> None:
        """Give the client its time for what we wait for; none runs while the client waits for us."""
        if self._answering():
            self._patience.disarm()
        else:
            self._patience.arm()

    def _too_slow(self) -> None:
        if self._patience.phase is Phase.BETWEEN:
            self.transport.close()  # nothing was asked: nothing to answer
        else:
            self._refuse(self._patience.too_slow())

    def _reject(self, error: HeadraceError) -> None:
        """Refuse what was just read, after the answers that are owed for what came before it."""
        self._deaf = True
        if self._answering():
            self._owed = error
            if self._patience.phase is Phase.BODY and self.pipeline:
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
        name = name_of(self.headers) if self._patience.phase is Phase.BODY else b""
        self._gone()
        defaults = (*self.server_state.default_headers, *self.cors.headers(self.headers or ()))
        self.transport.write(written(error, defaults, name))
        self._close(unread=True)

    def _close(self, *, unread: bool) -> None:
        """Close after what was written; `unread`: the client may still be sending."""
        self._patience.disarm()
        self._unset_keepalive_if_required()
        if not unread:
            self.transport.close()
            return
        self._deaf = True
        self._behind.clear()
        self.flow.resume_reading()
        self._end.begin()


def protocol_class(limits: ServerLimits, cors: Cors | None = None) -> type[EdgeProtocol]:
    """Return the protocol class to give to uvicorn's `http=`, with these limits and headers for other origins."""
    return type("EdgeProtocol", (EdgeProtocol,), {"limits": limits, "cors": cors or Cors()})


def _nothing() -> None:
    return
