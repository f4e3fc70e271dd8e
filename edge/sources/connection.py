"""One connection to an engine: HTTP/1.1 responses parsed as they arrive, one exchange at a time.

Reads go into one buffer that all connections of a pool share: the event loop fills it and calls us back before
anything else runs, so an idle connection costs no read buffer at all.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Protocol, cast

import httptools

__all__ = ["MAX_HEAD_BYTES", "READ_BYTES", "Connection", "Head", "Owner", "Taker"]

READ_BYTES = 32 * 1024
#: Bound of a response's header section, which the parser holds until it is whole.
MAX_HEAD_BYTES = 64 * 1024
_LOG = logging.getLogger("headrace.edge.sources")


class Head:
    """Status line and the headers that matter, of one response."""

    __slots__ = ("close_delimited", "content_type", "keep_alive", "status")

    def __init__(self, status: int, content_type: bytes, *, keep_alive: bool, close_delimited: bool) -> None:
        self.status = status
        self.content_type = content_type
        self.keep_alive = keep_alive
        #: Neither a length nor chunks: the body ends where the connection does.
        self.close_delimited = close_delimited


class Taker(Protocol):
    """Who gets the response: one exchange."""

    def on_head(self, head: Head) -> None:
        """Status and headers are here."""

    def on_body(self, data: bytes) -> None:
        """All of the body that one read brought, without chunk framing."""

    def on_complete(self) -> None:
        """The response ended as HTTP says it must."""

    def on_broken(self, reason: str) -> None:
        """The connection failed before that; `reason` is for people."""


class Owner(Protocol):
    """Who keeps connections: a pool."""

    def released(self, connection: Connection) -> None:
        """The connection is idle and can be used again."""

    def lost(self, connection: Connection) -> None:
        """The connection is closed."""


class Connection(asyncio.BufferedProtocol):
    """An HTTP/1.1 client connection.

    Args:
        owner: told when the connection is idle or closed.
        buffer: where reads go; shared with the owner's other connections.
    """

    __slots__ = (
        "_buffer",
        "_complete",
        "_content_length",
        "_content_type",
        "_head",
        "_head_bytes",
        "_owner",
        "_parser",
        "_pieces",
        "_taker",
        "_transport",
        "answered",
        "chunked",
        "idle_since",
        "used",
    )

    def __init__(self, owner: Owner, buffer: memoryview) -> None:
        self._owner: Owner | None = owner
        self._buffer = buffer
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._taker: Taker | None = None
        self._pieces: list[bytes] = []
        self._head: Head | None = None
        self._head_bytes = 0
        self._complete = False
        self._content_type = b""
        self._content_length = False
        self.chunked = False
        #: Exchanges begun on this connection; more than one = it came from the pool.
        self.used = 0
        #: A byte of the response to the present exchange has come.
        self.answered = False
        self.idle_since = 0.0

    @property
    def closing(self) -> bool:
        """Closed, or about to be."""
        return self._transport is None or self._transport.is_closing()

    def begin(self, taker: Taker, head: bytes, body: bytes) -> None:
        """Send a request and give its response to `taker`."""
        if self._transport is None:
            taker.on_broken("the connection is closed")
            return
        self._taker = taker
        self.answered = False
        self._head_bytes = 0
        self.used += 1
        if len(body) <= READ_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def pause(self) -> None:
        """Stop reading: the kernel's window closes, and an engine that waits for readers waits."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once. The taker hears `on_broken` when the loop says that the connection is gone."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        parser = self._parser
        if parser is None or self._taker is None:
            # An engine that speaks unasked: the connection cannot be trusted any more.
            self.abort()
            return
        try:
            try:
                parser.feed_data(self._buffer[:nbytes])
            except httptools.HttpParserError:
                if not self._complete or self._head is None:
                    raise
                # Bytes behind a whole answer belong to nobody: the answer stands, the connection goes.
                self._head.keep_alive = False
            pieces = self._pieces
            if pieces:
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                pieces.clear()
                self._taker.on_body(data)
        except httptools.HttpParserError as exc:
            self._broken(f"the engine's answer is not valid HTTP ({exc})")
            self.abort()
            return
        except Exception:  # noqa: BLE001
            # The outermost frame of a protocol callback: a bug in this stream must not end the worker.
            _LOG.exception("reading from an engine failed")
            self._broken("the gateway failed while it read from the engine")
            self.abort()
            return
        if self._complete:
            self._finish()
        elif self._head is None:
            self._head_bytes += nbytes
            if self._head_bytes > MAX_HEAD_BYTES:
                self._broken(f"the engine's headers are larger than {MAX_HEAD_BYTES} bytes")
                self.abort()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._taker is not None:
            if self._head is not None and self._head.close_delimited and exc is None:
                taker, self._taker = self._taker, None
                taker.on_complete()
            else:
                self._broken(
                    f"the engine closed the connection ({exc})" if exc else "the engine closed the connection"
                )
        self._transport = None
        self._parser = None
        if self._owner is not None:
            owner, self._owner = self._owner, None
            owner.lost(self)

    # httptools

    def on_message_begin(self) -> None:
        if self._complete:
            raise RuntimeError("a second response to one request")
        self.answered = True
        self._head = None
        self._complete = self.chunked = self._content_length = False
        self._content_type = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self._content_type = value
            case b"content-length":
                self._content_length = True
            case b"transfer-encoding":
                self.chunked = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        if self._parser is None or (status := self._parser.get_status_code()) < 200:
            return
        self._head = Head(
            status,
            self._content_type,
            keep_alive=self._parser.should_keep_alive(),
            close_delimited=not self.chunked and not self._content_length and status not in (204, 304),
        )
        if self._taker is not None:
            self._taker.on_head(self._head)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._head is not None:  # not the end of a 1xx
            self._complete = True

    # Inside

    def _finish(self) -> None:
        self._complete = False
        keep = self._head is not None and self._head.keep_alive and not self.closing
        taker, self._taker = self._taker, None
        self._head = None
        if keep and self._owner is not None:
            self.idle_since = monotonic()
            # A slow reader may have paused us in the very read that ended its answer.
            self.resume()
            self._owner.released(self)
        else:
            self.close()
        if taker is not None:
            taker.on_complete()

    def _broken(self, reason: str) -> None:
        if self._taker is not None:
            taker, self._taker = self._taker, None
            taker.on_broken(reason)
