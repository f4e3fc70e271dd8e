"""What a client may take in time and send in headers, by where its request is."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from edge.server.limits import ServerLimits
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Patience", "Phase"]


class Phase(enum.Enum):
    """Where the parser is."""

    BETWEEN = "between"  #: no byte of a request is here
    HEADERS = "headers"
    BODY = "body"


class Patience:
    """One connection's deadline, and the size of the headers that it is sending.

    Args:
        limits: of the connection.
        loop: of the deadline.
        expired: called when a deadline has passed.
    """

    __slots__ = ("_deadline", "_expired", "_header_bytes", "_limits", "_loop", "phase")

    def __init__(self, limits: ServerLimits, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._limits = limits
        self._loop = loop
        self._expired = expired
        self._deadline: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self.phase = Phase.BETWEEN

    def begin_headers(self) -> None:
        """A request begins."""
        self.phase = Phase.HEADERS
        self._header_bytes = 0

    def count_header(self, size: int) -> None:
        """So many bytes of headers came.

        Raises:
            HeadraceError: HEADERS_TOO_LARGE.
        """
        self._header_bytes += size
        if self._header_bytes > self._limits.max_header_bytes:
            raise self.too_large()

    def too_large(self) -> HeadraceError:
        """Return the refusal of headers that are too large."""
        text = f"The request's headers are larger than max_header_bytes = {self._limits.max_header_bytes}."
        return HeadraceError(Code.HEADERS_TOO_LARGE, text)

    def too_slow(self) -> HeadraceError:
        """Return the refusal of a request that takes too long."""
        text = f"The request's {self.phase.value} took longer than {self._seconds():g} s."
        return HeadraceError(Code.REQUEST_TIMEOUT, text)

    @property
    def armed(self) -> bool:
        """A deadline runs."""
        return self._deadline is not None

    def arm(self) -> None:
        """Give the client its time for what we wait for, from now on."""
        self.disarm()
        self._deadline = self._loop.call_later(self._seconds(), self._expire)

    def disarm(self) -> None:
        """Wait for nothing."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def close(self) -> None:
        """The connection is lost: forget it."""
        self.disarm()
        self._expired = _nobody

    def _seconds(self) -> float:
        return self._limits.body_s if self.phase is Phase.BODY else self._limits.header_s

    def _expire(self) -> None:
        self._deadline = None
        self._expired()


def _nobody() -> None:
    return
