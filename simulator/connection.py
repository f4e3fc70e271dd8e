"""One TCP connection: HTTP/1.1 parsed by httptools, answers in the header order of vLLM's uvicorn.

The simulator reads at all times, so a client that leaves is seen at once. It never waits for a reader: what a slow
one has not taken is kept up to `output_buffer_bytes`, then the connection is reset and counted.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import Final, Protocol, cast

import httptools

from simulator.body import Body
from simulator.directives import Directives
from simulator.engine import Engine
from simulator.message import Request, Work, head

__all__ = ["Cancellable", "Connection", "Handler"]

_MAX_PIPELINED: Final = 16
_UNFORESEEN: Final = (
    b'{"error":{"message":"The simulator failed.","type":"InternalServerError","param":null,"code":500}}'
)
_JSON: Final = "application/json"
_LINGER_NONE: Final = struct.pack("ii", 1, 0)


class Cancellable(Protocol):
    """A start that is still to come."""

    def cancel(self) -> None:
        """It is not to come any more."""


class Handler(Protocol):
    """Answers requests; `Routes` is one."""

    engine: Engine

    def handle(self, exchange: Connection, request: Request) -> None:
        """Answer now or later, through `exchange`."""

    def opened(self, connection: Connection) -> None:
        """A connection was made."""

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""


class Connection(asyncio.Protocol):
    """Serves one connection, one request after the other.

    Args:
        handler: answers the requests.
        loop: for the idle timer.
    """

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self.loop = loop
        self._settings = handler.engine.settings
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._incoming: Request | None = None
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._close_after = False
        self._idle: asyncio.TimerHandle | None = None
        #: What runs for the current request; ends when the client leaves.
        self.generation: Work | None = None
        #: A delayed start of the current request.
        self.delayed: Cancellable | None = None

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; the write bound is the transport's own high mark."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._settings.output_buffer_bytes)
        self._handler.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse; a broken request is refused as uvicorn does, and ends the connection."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400, b"Invalid HTTP request received.")

    def eof_received(self) -> None:
        """Half-close counts as leaving (behaviour.txt: EOF at once); asyncio closes the transport."""
        self._abandon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: stop its work."""
        self._abandon()
        self._transport = None
        if self._idle is not None:
            self._idle.cancel()
        self._handler.closed(self)

    def pause_writing(self) -> None:
        """More than the bound is unsent: this reader has fallen too far behind."""
        self._handler.engine.stats.overflowed += 1
        self.reset()

    # httptools' side.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers = {}
        self._header_bytes = self._body_bytes = 0
        self._parts = []

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a repeated one is joined by a comma."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text
        self._count_header(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The head is complete; a body may follow."""
        parser = self._parser
        self._incoming = Request(
            parser.get_method().decode("latin-1"),
            self._target,
            self._headers,
            old=parser.get_http_version() == "1.0",
            keep_alive=parser.should_keep_alive(),
        )
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._settings.body_bytes:
            self._refuse(413, b"Request body too large.")
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """A whole request: serve it, or queue it behind the one in progress."""
        request, self._incoming = self._incoming, None
        if request is None or self._transport is None or self._transport.is_closing():
            return
        request.body = b"".join(self._parts)
        self._queue.append(request)
        if len(self._queue) > _MAX_PIPELINED:
            self.reset()
        elif self._current is None:
            self._serve()

    # The exchange's side.

    @property
    def closing(self) -> bool:
        """Nothing more can be sent."""
        return self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Put bytes on the connection; dropped when it is closing."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def answer(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str | None = _JSON,
        bare: bool = False,
        allow: str | None = None,
    ) -> None:
        """Send a whole answer; the exchange is over.

        Args:
            status: HTTP status.
            body: as is; left out, but counted, for HEAD (g11_head_health).
            content_type: None for an empty answer (g03_health).
            bare: without `vary` (k01_auth_none, h_drain_new_request).
            allow: methods, for a 405 (g12_post_health).
        """
        top = head(status)
        if allow is not None:
            top += b"allow: %b\r\n" % allow.encode()
        top += b"content-length: %d\r\n" % len(body)
        if content_type is not None:
            top += b"content-type: %b\r\n" % content_type.encode()
        top += self._tail(bare=bare)
        with_body = self._current is None or self._current.method != "HEAD"
        self.write(b"%b\r\n%b" % (top, body if with_body else b""))
        self.over()

    def stream(self, directives: Directives, content_type: str) -> Body:
        """Send a stream's headers, and return its body (a01_stream)."""
        chunked = not directives.close_delimited and not (self._current is not None and self._current.old)
        top = head(200) + b"content-type: %b\r\n" % content_type.encode() + self._tail()
        if chunked:
            top += b"transfer-encoding: chunked\r\n"
        else:
            self._close_after = True
            top += b"connection: close\r\n"
        body = Body(self.write, self.loop, directives, chunked=chunked)
        body.write(top + b"\r\n")
        return body

    def over(self) -> None:
        """The answer is sent: serve the next request, wait for one, or close."""
        current, self._current = self._current, None
        self.generation = None
        if self.closing:
            return
        if self._close_after or current is None or not current.keep_alive:
            self.close()
        elif self._queue:
            # Not from here: a long pipeline of short answers would nest.
            self.loop.call_soon(self._serve)
        else:
            idle_s = self._settings.keep_alive_idle_ms * 0.001
            self._idle = self.loop.call_later(idle_s, self.close)

    def close(self) -> None:
        """Close (FIN) once all is sent."""
        self._queue.clear()
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close with RST; what is unsent is lost."""
        if self._transport is None:
            return
        peer = self._transport.get_extra_info("socket")
        if peer is not None and not self._transport.is_closing():
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self._transport.abort()

    def _serve(self) -> None:
        if self._current is None and self._queue and not self.closing:
            self._current = self._queue.popleft()
            try:
                self._handler.handle(self, self._current)
            except Exception as error:  # noqa: BLE001 - a protocol callback's outermost frame
                # A request that we did not foresee must not take the server with it.
                self.loop.call_exception_handler({"message": "a simulated request failed", "exception": error})
                self._close_after = True
                self.answer(500, _UNFORESEEN)

    def _tail(self, *, bare: bool = False) -> bytes:
        current = self._current
        tail = b"" if bare else b"vary: Origin\r\n"
        if self._settings.request_id_headers and current is not None:
            tail += b"x-request-id: %b\r\n" % current.request_id.encode("latin-1")
        if self._close_after or (current is not None and not current.keep_alive and not current.old):
            tail += b"connection: close\r\n"
        return tail

    def _refuse(self, status: int, text: bytes) -> None:
        if self.closing or self._close_after:
            return
        self._close_after = True
        if self._current is None:
            self.answer(status, text, content_type="text/plain; charset=utf-8")
        else:
            self.close()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._settings.header_bytes:
            self._refuse(431, b"Request header fields too large.")

    def _abandon(self) -> None:
        self._queue.clear()
        if self.delayed is not None:
            self.delayed.cancel()
            self.delayed = None
        if self.generation is not None:
            self.generation.abort()
            self.generation = None
