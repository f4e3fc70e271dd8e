"""One line before several `Permits`: who waits here takes the first permit that any of its places frees.

A request that any of three engines could serve, or a job that fits on either GPU, must not have to guess which of
them will be free first.

**Order.** Those who may use the same places stand in one queue: the highest class first, the oldest within a class,
and waiting raises (`PriorityQueue`). Where several queues want the same place, the better aged class goes first, and
among equals the queue that was served longest ago: a crowd that waits for one model cannot starve the few who wait
for another on the same engine, and as ageing brings everybody to class 1, nobody starves at all.

**Bound.** Each queue has its own, so a crowd fills its own queue and no other. At the bound a newcomer may displace
one of a strictly lower class.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Protocol

from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.flow.permits import Permit, Permits
from streamkit.flow.queue import PriorityQueue

__all__ = ["Line", "Place", "Waiter"]


class Waiter(Protocol):
    """Who waits. Exactly one of these is called, once, unless it leaves before."""

    def granted(self, of: Permits, permit: Permit) -> None:
        """A permit is there, and is the waiter's to release."""

    def displaced(self) -> None:
        """Somebody of a higher class needed the room."""

    def expired(self) -> None:
        """The deadline has passed."""


class Place:
    """A waiter's place in the line, until it is called or `leave`s."""

    __slots__ = ("_alarm", "_line", "_queue", "_ticket", "since", "waiter")

    def __init__(self, line: Line, waiter: Waiter, since: float) -> None:
        self._line = line
        self._queue: _Queue | None = None
        self._ticket = (0, 0)
        self._alarm: asyncio.TimerHandle | None = None
        self.waiter = waiter
        #: The clock's reading when the waiting began, in seconds.
        self.since = since

    def leave(self) -> None:
        """Give up, which costs nobody anything. After a call of the waiter it does nothing."""
        queue = self._taken()
        if queue is not None:
            queue.waiting.remove(self._ticket)
            self._line._left(queue)  # noqa: SLF001 - a place is half of its line

    def _stand(self, queue: _Queue, ticket: tuple[int, int], alarm: asyncio.TimerHandle) -> None:
        self._queue, self._ticket, self._alarm = queue, ticket, alarm

    def _taken(self) -> _Queue | None:
        """Stop the alarm; return the queue if the waiter had not been called."""
        queue, self._queue = self._queue, None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        return queue

    def _expire(self) -> None:
        if self._queue is not None:
            self.leave()
            self.waiter.expired()


class _Queue:
    """Those who may use the same places."""

    __slots__ = ("places", "served", "waiting")

    def __init__(self, places: frozenset[Permits], waiting: PriorityQueue[Place]) -> None:
        self.places = places
        self.waiting = waiting
        #: The turn in which it was served last.
        self.served = -1


class Line:
    """Waiters for any of several `Permits`. Used from one event loop.

    Args:
        bound: the most that may wait for the same set of places; 0 = nobody waits.
        ageing_ms: waiting time that raises a waiter by one class, in milliseconds; 0 = never.
        clock: monotonic seconds.
    """

    __slots__ = ("_ageing_ms", "_bound", "_clock", "_granting", "_queues", "_turns")

    def __init__(self, *, bound: int, ageing_ms: int, clock: Clock = MONOTONIC) -> None:
        self._bound = bound
        self._ageing_ms = ageing_ms
        self._clock = clock
        self._queues: dict[frozenset[Permits], _Queue] = {}
        self._turns = itertools.count()
        self._granting: set[Permits] = set()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def watch(self, permits: Permits) -> None:
        """Let waiters have what `permits` frees; needed once for each that `enter` is given."""
        permits.on_free = self._freed

    def enter(self, places: Iterable[Permits], priority: int, waiter: Waiter, *, deadline_s: float) -> Place:
        """Wait for the first permit of any of `places`, all of whose permits are taken.

        Args:
            places: watched ones; each has none free now.
            priority: 1 (highest) to 9.
            waiter: told how it ended.
            deadline_s: longest wait, in seconds.

        Raises:
            QueueFull: too many wait for these places, none of them of a lower class.
            ValueError: the priority is not 1 to 9.
        """
        key = frozenset(places)
        queue = self._queues.get(key)
        if queue is None:
            room: PriorityQueue[Place] = PriorityQueue(self._bound, ageing_ms=self._ageing_ms, clock=self._clock)
            queue = _Queue(key, room)
        displaced = queue.waiting.displace(priority) if len(queue.waiting) >= self._bound else None
        place = Place(self, waiter, self._clock())
        ticket = queue.waiting.push(place, priority)
        self._queues[key] = queue
        place._stand(queue, ticket, asyncio.get_running_loop().call_later(deadline_s, place._expire))  # noqa: SLF001
        if displaced is not None:
            displaced._taken()  # noqa: SLF001 - a place is half of its line
            displaced.waiter.displaced()
        return place

    def _freed(self, permits: Permits) -> None:
        """Hand out what is free. A waiter that gives its permit back within the call only makes the loop go on."""
        if permits in self._granting:
            return
        self._granting.add(permits)
        try:
            while (queue := self._next(permits)) is not None:
                permit = permits.try_acquire()
                if permit is None:
                    return
                place = queue.waiting.pop()
                queue.served = next(self._turns)
                place._taken()  # noqa: SLF001 - a place is half of its line
                self._left(queue)
                place.waiter.granted(permits, permit)
        finally:
            self._granting.discard(permits)

    def _next(self, permits: Permits) -> _Queue | None:
        found = (queue for queue in self._queues.values() if permits in queue.places)
        return min(found, key=lambda queue: (queue.waiting.rank, queue.served), default=None)

    def _left(self, queue: _Queue) -> None:
        if not len(queue.waiting):
            self._queues.pop(queue.places, None)
