"""A number of permits, and a bounded queue in front of them.

A permit is held until the upstream body ends (law 3). The limit may be changed at any time: one that shrinks under
use takes nothing back, and grants nothing until enough has been released.
"""

from __future__ import annotations

import asyncio

from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.flow.queue import PriorityQueue, QueueFull

__all__ = ["Permit", "Permits", "QueueFull", "QueueTimeout"]


class QueueTimeout(Exception):  # noqa: N818 - reads as its neighbour QueueFull
    """The deadline passed in the queue."""

    def __init__(self, waited_ms: int) -> None:
        super().__init__(f"no permit became free within {waited_ms} ms")
        self.waited_ms = waited_ms


class Permits:
    """At most `limit` holders at a time. Used from one event loop.

    Args:
        limit: permits that may be held at a time; 0 holds everybody back.
        queue_bound: the most that may wait in `acquire`; 0 = nobody waits.
        ageing_ms: waiting time that raises a waiter by one priority class, in milliseconds; 0 = never.
        clock: monotonic seconds, the scale of deadlines.

    Raises:
        ValueError: the limit is negative.
    """

    __slots__ = ("_clock", "_in_use", "_limit", "_queue")

    def __init__(self, limit: int, *, queue_bound: int = 0, ageing_ms: int = 1_000, clock: Clock = MONOTONIC) -> None:
        self._limit = _checked(limit)
        self._in_use = 0
        self._clock = clock
        self._queue: PriorityQueue[asyncio.Future[Permit]] = PriorityQueue(
            queue_bound, ageing_ms=ageing_ms, clock=clock
        )

    @property
    def limit(self) -> int:
        """Permits that may be held at a time."""
        return self._limit

    @property
    def in_use(self) -> int:
        """Permits held now; more than `limit` after the limit has shrunk under use."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """Callers of `acquire` that wait now."""
        return len(self._queue)

    def set_limit(self, limit: int) -> None:
        """Change the limit; what it adds goes to the waiters at once.

        Raises:
            ValueError: the limit is negative.
        """
        self._limit = _checked(limit)
        self._grant()

    def try_acquire(self) -> Permit | None:
        """Return a permit, or None when all are held. Never overtakes: nobody waits while one is free."""
        if self._in_use >= self._limit:
            return None
        self._in_use += 1
        return Permit(self)

    async def acquire(self, priority: int, deadline: float | None = None) -> Permit:
        """Return a permit, waiting in the queue for it if need be.

        Cancelling the caller leaks nothing: a permit granted in the same moment goes to the next waiter.

        Args:
            priority: 1 (highest) to 9.
            deadline: the clock's reading, in seconds, after which waiting is useless; None = no end.

        Raises:
            QueueFull: too many wait already.
            QueueTimeout: the deadline has passed; no permit is held.
        """
        permit = self.try_acquire()
        if permit is not None:
            return permit
        since = self._clock()
        if deadline is not None and deadline <= since:
            raise QueueTimeout(0)
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[Permit] = loop.create_future()
        place = self._queue.push(granted, priority)
        alarm = None if deadline is None else loop.call_later(deadline - since, self._expire, granted, since)
        try:
            return await granted
        except BaseException:
            self._queue.remove(place)
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().release()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def _expire(self, granted: asyncio.Future[Permit], since: float) -> None:
        if not granted.done():
            granted.set_exception(QueueTimeout(int((self._clock() - since) * 1000)))

    def _release(self) -> None:
        self._in_use -= 1
        self._grant()

    def _grant(self) -> None:
        while self._in_use < self._limit and len(self._queue):
            waiter = self._queue.pop()
            if not waiter.done():
                self._in_use += 1
                waiter.set_result(Permit(self))


class Permit:
    """The right to one place, until `release`."""

    __slots__ = ("_permits",)

    def __init__(self, permits: Permits) -> None:
        self._permits: Permits | None = permits

    def release(self) -> None:
        """Give the place back; the first waiter has it before this returns. Again does nothing."""
        permits, self._permits = self._permits, None
        if permits is not None:
            permits._release()  # noqa: SLF001 - a permit is half of its Permits


def _checked(limit: int) -> int:
    if limit < 0:
        raise ValueError(f"a limit of permits cannot be negative: {limit}")
    return limit
