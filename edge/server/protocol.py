"""Our HTTP/1.1 protocol class: uvicorn's own, with what a streaming edge must own itself.

Changes against `uvicorn.protocols.http.httptools_impl` 0.54.0 (pinned; tests/integration/test_server_contract.py):

- the writer extension, injected when a request's task starts and not when its headers were parsed;
- a pipelined request never pauses reading, or the client's disconnect would go unseen; what follows a request is kept
  up to a bound, and beyond it the connection is closed;
- HTTP/1.0 gets a body that the close delimits, where uvicorn would send chunks;
- header bytes, and the time for headers and body, are bounded; refusals are OpenAI envelopes;
- socket options: unsent bytes in the kernel are bounded, a silent client is found by keep-alive and user timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from edge.server.writer import EXTENSION, Writer
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent

__all__ = ["EdgeProtocol", "ServerLimits", "protocol_class"]


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one client connection."""

    max_header_bytes: int
    #: Kept of requests that arrive while an earlier one is being answered.
    max_pipelined_bytes: int
    header_s: float
    body_s: float
    #: High mark of the transport's buffer; the low mark is a quarter.
    write_high_bytes: int
    #: `TCP_NOTSENT_LOWAT`: what the kernel may hold beyond what the network is carrying.
    notsent_bytes: int
    #: `TCP_USER_TIMEOUT`: unacknowledged for so long = gone.
    user_timeout_ms: int


class _CloseDelimitedCycle(RequestResponseCycle):
    """A response to HTTP/1.0, which knows no chunks: without a length the body ends with the connection."""

    _open_ended = False

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            if b"content-length" not in names:
                self._open_ended = True
                self.chunked_encoding = False
        elif self._open_ended and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


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
        self._running: RequestResponseCycle | None = None
        self._writer: Writer | None = None
        self._in_headers = True
        self._header_bytes = 0
        self._raw_header_bytes = 0
        self._behind = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False
        self._discarded = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self.limits
        transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_high_bytes // 4)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.user_timeout_ms)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, limits.notsent_bytes)
        self._arm(limits.header_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._behind.clear()
        self.pipeline.clear()
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            # uvicorn marks the cycle that was parsed last, which behind a pipeline is another one.
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.disconnected()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writer is not None:
            self._writer.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writer is not None:
            self._writer.resume()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discard(data)
            return
        if self._answering():
            self._keep(data)
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.pipeline:
            # A second request came in the same read. Its reading pause would hide a disconnect.
            self.flow.resume_reading()
        if self._in_headers:
            # Not yet a whole header section: count what the parser holds, down to one endless line.
            self._raw_header_bytes += len(data)
            if self._raw_header_bytes > self.limits.max_header_bytes:
                self._headers_too_large()

    def send_400_response(self, msg: str) -> None:
        if self._header_bytes > self.limits.max_header_bytes:
            self._headers_too_large()
            return
        self._refuse(HeadraceError(Code.INVALID_REQUEST, f"This is not HTTP/1.1: {msg}"))

    # httptools

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = self._raw_header_bytes = 0
        self._arm(self.limits.header_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self.limits.max_header_bytes:
            raise _HeadersTooLargeError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._arm(self.limits.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._running = None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        super().on_response_complete()
        if self._behind and not self.transport.is_closing():
            self.loop.call_soon(self._feed_behind)

    # Inside

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.scope["http_version"] == "1.0":
            cycle.__class__ = _CloseDelimitedCycle
        writer = Writer(self.transport, chunked=cycle.scope["http_version"] != "1.0")
        extensions: dict[str, Any] = dict(cycle.scope.get("extensions") or {})
        extensions[EXTENSION] = writer
        cycle.scope["extensions"] = extensions
        self._running = cycle
        self._writer = writer
        super()._start_asgi_task(cycle, app)

    def _answering(self) -> bool:
        """A whole request is in hand and its answer is not finished."""
        running = self._running
        return (
            running is not None and not running.response_complete and (not running.more_body or bool(self.pipeline))
        )

    def _keep(self, data: bytes) -> None:
        self._behind += data
        if len(self._behind) > self.limits.max_pipelined_bytes:
            self.logger.warning("closing a connection that pipelines more than %d bytes", len(self._behind))
            self.transport.abort()

    def _feed_behind(self) -> None:
        if self._behind and not self.transport.is_closing() and not self._answering():
            data = bytes(self._behind)
            self._behind.clear()
            self.data_received(data)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        running = self._running
        if running is not None and running.response_started:
            self.transport.abort()
            return
        if not self._raw_header_bytes and self._in_headers:
            self.transport.close()  # nothing was ever asked: nothing to answer
            return
        what = "headers" if self._in_headers else "body"
        seconds = self.limits.header_s if self._in_headers else self.limits.body_s
        self._refuse(HeadraceError(Code.REQUEST_TIMEOUT, f"The request's {what} took longer than {seconds:g} s."))

    def _headers_too_large(self) -> None:
        limit = self.limits.max_header_bytes
        text = f"The request's headers are larger than max_header_bytes = {limit}."
        self._refuse(HeadraceError(Code.HEADERS_TOO_LARGE, text))

    def _refuse(self, error: HeadraceError) -> None:
        """Answer without a request, and close."""
        if self.transport.is_closing():
            return
        if self._running is not None and not self._running.response_complete:
            # Bytes of a refusal in the middle of another answer would corrupt it.
            self.transport.abort()
            return
        body = error.envelope()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *error.headers()]
        lines = b"".join(b"%b: %b\r\n" % header for header in [*self.server_state.default_headers, *head])
        self.transport.write(STATUS_LINE[error.wire.status] + lines + b"connection: close\r\n\r\n" + body)
        self._linger_close()

    def _linger_close(self) -> None:
        """Close our half first, so that the refusal is read before a reset for unread bytes can overtake it."""
        self._disarm()
        with contextlib.suppress(OSError, NotImplementedError):
            self.transport.write_eof()
        self._refused = True
        self.loop.call_later(1.0, self.transport.abort)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > 64 * self.limits.max_header_bytes:
            self.transport.abort()


class _HeadersTooLargeError(Exception):
    """Raised out of a parser callback, so that parsing stops there."""


def protocol_class(limits: ServerLimits) -> type[EdgeProtocol]:
    """Return the protocol class to give to uvicorn's `http=`, with these limits."""
    return type("EdgeProtocol", (EdgeProtocol,), {"limits": limits})
