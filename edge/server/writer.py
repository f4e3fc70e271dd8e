"""The writer: an ASGI extension for the middle of a response body, written straight to the client's transport.

`http.response.start` and the final body message still go through `send`, so status, keep-alive, HEAD and shutdown
stay uvicorn's. In between, `scope["extensions"]["headrace.writer"]` takes whole events without a task switch, a dict
or an await for each (docs/adr/0003-writer-extension.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edge.server.sockets import cut, unsent

__all__ = ["EXTENSION", "Writer"]

EXTENSION: Final = "headrace.writer"


class Writer:
    """Writes the middle of one response body.

    Args:
        transport: the client's connection.
        chunked: HTTP/1.1 chunked framing; False writes raw bytes for HTTP/1.0, where the close ends the body.
        paused: the transport is over its high mark already, from an answer before.
    """

    __slots__ = ("_chunked", "_paused", "_transport", "cause", "gone", "on_disconnect", "on_pause", "on_resume")

    def __init__(self, transport: asyncio.Transport, *, chunked: bool, paused: bool = False) -> None:
        self._transport: asyncio.Transport | None = transport
        self._chunked = chunked
        self._paused = paused
        #: The client closed its connection or its half of it.
        self.gone = False
        #: And how it was lost.
        self.cause = "client"
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None

    def write(self, data: bytes) -> bool:
        """Write whole events as one chunk; one system call when the socket takes it.

        Returns:
            False while the transport is over its high mark: what was given is kept, more should wait for `on_resume`.
        """
        transport = self._transport
        if transport is None or not data:
            return True
        if self._chunked:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.write(data)
        return not self._paused

    @property
    def queued_bytes(self) -> int:
        """Bytes in this process that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client's kernel has not acknowledged: ours and those in the socket's send queue."""
        return unsent(self._transport) if self._transport is not None else 0

    def abort(self) -> None:
        """Cut the connection by a reset, and drop all that is unsent, in the kernel too."""
        if self._transport is not None:
            cut(self._transport)

    # For the protocol class

    def pause(self) -> None:
        """The transport is over its high mark."""
        self._paused = True
        if self.on_pause is not None:
            self.on_pause()

    def resume(self) -> None:
        """The transport is under its low mark again."""
        self._paused = False
        if self.on_resume is not None:
            self.on_resume()

    def disconnected(self) -> None:
        """The client is gone."""
        self.gone = True
        self._transport = None
        if self.on_disconnect is not None:
            self.on_disconnect()

    def close(self) -> None:
        """The response is over: forget everybody."""
        self._transport = None
        self.on_pause = self.on_resume = self.on_disconnect = None
