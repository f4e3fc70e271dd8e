"""One timer for thousands of streams: work is kept in one-millisecond buckets, not in a timer each."""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Wheel"]

T = TypeVar("T")


class Wheel(Generic[T]):
    """Calls `on_due(items, now)` for what is due, all items of one millisecond together.

    A timer handle per token costs as much as the token itself; a bucket costs one heap entry for all the
    streams that fall into it. Items cannot be taken out: whoever gets them back skips the dead ones.

    Args:
        loop: the loop whose timers drive it.
        on_due: gets the items of a bucket in the order of scheduling, and the time (monotonic, seconds).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[list[T], float], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._buckets: dict[int, list[T]] = {}
        self._keys: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed = 0
        self._turning = False

    def add(self, item: T, due: float) -> None:
        """Have `item` back at `due` (monotonic, seconds), up to one millisecond later."""
        key = math.ceil(due * 1000)
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.append(item)
            return
        self._buckets[key] = [item]
        heapq.heappush(self._keys, key)
        if not self._turning and (self._handle is None or key < self._armed):
            self._arm()

    def close(self) -> None:
        """Forget everything."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._buckets.clear()
        self._keys.clear()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = self._keys[0]
        delay = self._armed * 0.001 - time.monotonic()
        self._handle = self._loop.call_later(max(0.0, delay), self._turn)

    def _turn(self) -> None:
        # Half a millisecond of grace: uvloop's timers count whole milliseconds and may fire that much early.
        limit = time.monotonic() * 1000 + 0.5
        self._handle = None
        self._turning = True
        try:
            while self._keys and self._keys[0] <= limit:
                items = self._buckets.pop(heapq.heappop(self._keys))
                self._on_due(items, time.monotonic())
        finally:
            self._turning = False
            if self._keys:
                self._arm()
