"""Watching a reader that keeps its upstream paused: how long it did, and when it has taken nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from edge.streams.contracts import Outlet
from edge.streams.quiet import Quiet

__all__ = ["SlowReader"]

#: Pauses that are remembered one by one.
_REMEMBERED: Final = 16


class SlowReader:
    """The pauses of one reader.

    Progress is judged by unsent bytes, the kernel's included: a reader of one byte a second is slow and not stuck.

    Args:
        loop: of its timer.
        limit_s: no progress for so long within a pause means that the reader is stuck; None = it never is.
        stuck: called then, once.
    """

    __slots__ = (
        "_limit_s",
        "_loop",
        "_outlet",
        "_paused_at",
        "_quiet",
        "_stuck",
        "_unsent_seen",
        "paused_s",
        "pauses",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float | None, stuck: Callable[[], None]) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._stuck: Callable[[], None] | None = stuck
        self._outlet: Outlet | None = None
        self._quiet: Quiet | None = None
        self._paused_at = 0.0
        self._unsent_seen = 0
        #: Length of the pauses that are over, together.
        self.paused_s = 0.0
        #: When the first of them began, in monotonic seconds, and their lengths.
        self.pauses: list[tuple[float, float]] = []

    @property
    def paused(self) -> bool:
        """A pause is under way."""
        return self._paused_at > 0.0

    def pause(self, outlet: Outlet | None) -> bool:
        """Begin a pause; return False if one is under way.

        Args:
            outlet: where the reader is, now or from now on; None = its headers are not out.
        """
        if outlet is not self._outlet or not self._paused_at:
            self._outlet = outlet
            self._unsent_seen = outlet.unsent_bytes if outlet is not None else 0
        if self._paused_at:
            return False
        self._paused_at = monotonic()
        if self._quiet is not None:
            self._quiet.restart()
        elif self._limit_s is not None:
            self._quiet = Quiet(self._loop, self._limit_s, self._look)
        return True

    def resume(self) -> bool:
        """End the pause; return False if there was none."""
        if not self._paused_at:
            return False
        length_s = monotonic() - self._paused_at
        self.paused_s += length_s
        if len(self.pauses) < _REMEMBERED:
            self.pauses.append((self._paused_at, length_s))
        self._paused_at = 0.0
        return True

    def stop(self) -> None:
        """Watch no longer, and know nobody."""
        self.resume()
        if self._quiet is not None:
            self._quiet.stop()
            self._quiet = None
        self._stuck = self._outlet = None

    def _look(self) -> None:
        """A pause began a whole limit ago, if it is not over: stuck, unless unsent bytes have fallen since."""
        if self._quiet is None or not self._paused_at:
            return
        if self._outlet is not None and (unsent := self._outlet.unsent_bytes) < self._unsent_seen:
            self._unsent_seen = unsent
            self._quiet.restart()
        elif self._stuck is not None:
            self._stuck()
