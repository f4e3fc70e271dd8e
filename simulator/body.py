"""How events become bytes on the connection: chunked framing, and every way to do it differently."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from simulator.directives import Directives

__all__ = ["Body"]


class Body:
    """The body of one streamed answer: one event per HTTP chunk, unless a directive says otherwise.

    Args:
        write: puts bytes on the connection.
        loop: for `split`, which writes one piece per turn.
        directives: `crlf`, `close_delimited`, `split` and `merge` are heeded.
        chunked: whether the peer takes chunked framing (not HTTP/1.0).

    Attributes:
        plain: events need nothing but framing, so the hot path may frame them itself.
    """

    __slots__ = (
        "_chunked", "_crlf", "_held", "_loop", "_merge", "_pieces", "_pumping", "_raw", "_split", "_then", "plain",
        "write",
    )  # fmt: skip

    def __init__(
        self,
        write: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        directives: Directives,
        *,
        chunked: bool,
    ) -> None:
        self._raw = write
        self._loop = loop
        self._chunked = chunked
        self._crlf = directives.crlf
        self._merge = directives.merge
        self._split = directives.split
        self._held: list[bytes] = []
        self._pieces: deque[bytes] = deque()
        self._pumping = False
        self._then: Callable[[], None] | None = None
        self.write = write if self._split is None else self._write_split
        self.plain = chunked and not self._crlf and self._merge == 1

    def event(self, event: bytes) -> None:
        """Send one whole event, its blank line included."""
        if self.plain:
            self.write(b"%x\r\n%b\r\n" % (len(event), event))
            return
        if self._crlf:
            event = event.replace(b"\n", b"\r\n")
        self._held.append(event)
        if len(self._held) >= self._merge:
            self.flush()

    def flush(self) -> None:
        """Send what `merge` holds back."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, then: Callable[[], None]) -> None:
        """End the body; `then` runs when its last byte is with the transport."""
        self.flush()
        if self._chunked:
            self.write(b"0\r\n\r\n")
        self.settle(then)

    def settle(self, then: Callable[[], None]) -> None:
        """Run `then` when all that was written is with the transport."""
        if self._pumping:
            self._then = then
        else:
            then()

    def _write_split(self, data: bytes) -> None:
        size = self._split or len(data)
        self._pieces.extend(data[i : i + size] for i in range(0, len(data), size))
        if not self._pumping:
            self._pumping = True
            self._next_piece()

    def _next_piece(self) -> None:
        # The turn after the last piece is waited for too, or the next write would join it in the kernel.
        if self._pieces:
            self._raw(self._pieces.popleft())
            self._loop.call_soon(self._next_piece)
            return
        self._pumping = False
        if self._then is not None:
            then, self._then = self._then, None
            then()
