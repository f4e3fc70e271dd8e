"""A timer that fires after a silence, at the price of one attribute for each sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

__all__ = ["Quiet"]


class Quiet:
    """Calls `fire` once nothing has happened for `silence_s` seconds.

    Whoever sees a sign of life sets `last = monotonic()`; no timer is touched for it. The timer looks when it is due
    and sleeps on for the rest, so thousands of busy streams cost one timer each for every `silence_s`.

    `fire` is called once for each silence; call `restart` to listen for the next one.
    """

    __slots__ = ("_fire", "_handle", "_loop", "last", "silence_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, silence_s: float, fire: Callable[[], None]) -> None:
        self._loop = loop
        self._fire: Callable[[], None] | None = fire
        self.silence_s = silence_s
        self.last = monotonic()
        self._handle: asyncio.TimerHandle | None = loop.call_later(silence_s, self._look)

    def restart(self, silence_s: float | None = None) -> None:
        """Begin a new silence now, of another length if one is given."""
        if self._fire is None:
            return
        if silence_s is not None:
            self.silence_s = silence_s
        self.last = monotonic()
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(self.silence_s, self._look)

    def stop(self) -> None:
        """Never fire again; drops the reference to the owner."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._fire = None

    def _look(self) -> None:
        self._handle = None
        if self._fire is None:
            return
        rest_s = self.last + self.silence_s - monotonic()
        if rest_s > 0:
            self._handle = self._loop.call_later(rest_s, self._look)
        else:
            self._fire()
