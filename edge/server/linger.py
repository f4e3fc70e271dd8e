"""The end of a connection whose client may still be sending: our half first, and the rest is read and dropped.

A plain close while bytes come in becomes a reset, which overtakes our last answer (RFC 9112 §9.6).
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Linger"]

#: How long a client may be silent, and how long it may go on sending, before we close.
_QUIET_S: Final = 2.0
_LONGEST_S: Final = 30.0


class Linger:
    """Waits for a client to close, within bounds.

    Args:
        transport: the connection.
        loop: of its timer.
    """

    __slots__ = ("_loop", "_timer", "_transport", "dropped_bytes")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        #: What came and was not wanted; whoever takes it counts it here.
        self.dropped_bytes = 0

    @property
    def waiting(self) -> bool:
        """Its timer runs."""
        return self._timer is not None

    def begin(self) -> None:
        """End our half after what was written; close when the client is silent, or goes on for too long."""
        self.stop()
        self.dropped_bytes = 0
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._look(self._loop.time() + _LONGEST_S)

    def stop(self) -> None:
        """The connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, until: float, seen: int = -1) -> None:
        """A client that has read our end closes long before."""
        self._timer = None
        if seen == self.dropped_bytes or self._loop.time() > until:
            self._transport.close()
        else:
            self._timer = self._loop.call_later(_QUIET_S, self._look, until, self.dropped_bytes)
