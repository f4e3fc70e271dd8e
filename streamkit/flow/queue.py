"""A bounded queue of nine priority classes, in which waiting counts."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from streamkit.flow.clock import MONOTONIC, Clock

__all__ = ["CLASSES", "PriorityQueue", "QueueFull"]

T = TypeVar("T")
#: Priority classes; 1 is the highest.
CLASSES: Final = 9


class QueueFull(Exception):  # noqa: N818 - the name says what it is, as in the standard library
    """The queue is at its bound."""

    def __init__(self, bound: int) -> None:
        super().__init__(f"the queue is at its bound of {bound} waiting")
        self.bound = bound


class PriorityQueue(Generic[T]):
    """Gives the highest class first and the oldest within a class; each `ageing_ms` of waiting raises by one class.

    A waiter that has aged to class 1 is before all that came later, so nobody starves. Ageing orders this queue and
    nothing else: it gives no right to pre-empt (design §6). All operations look at nine heads at most.

    Args:
        bound: the most that may wait.
        ageing_ms: waiting time worth one class, in milliseconds; 0 = waiting counts for nothing.
        clock: monotonic seconds.
    """

    __slots__ = ("_ageing_s", "_classes", "_clock", "_size", "_tickets", "bound")

    def __init__(self, bound: int, *, ageing_ms: int, clock: Clock = MONOTONIC) -> None:
        self.bound = bound
        self._ageing_s = ageing_ms / 1000
        self._clock = clock
        self._classes: tuple[OrderedDict[int, tuple[float, T]], ...] = tuple(OrderedDict() for _ in range(CLASSES))
        self._tickets = itertools.count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, item: T, priority: int) -> tuple[int, int]:
        """Add `item` and return the place that `remove` takes.

        Raises:
            QueueFull: the queue is at its bound.
            ValueError: the priority is not 1 to 9.
        """
        if not 1 <= priority <= CLASSES:
            raise ValueError(f"priority must be 1 to {CLASSES}, not {priority}")
        if self._size >= self.bound:
            raise QueueFull(self.bound)
        ticket = next(self._tickets)
        self._classes[priority - 1][ticket] = (self._clock(), item)
        self._size += 1
        return priority, ticket

    def pop(self) -> T:
        """Remove and return the first.

        Raises:
            IndexError: nothing waits.
        """
        first = self._first()
        if first is None:
            raise IndexError("nothing waits in this queue")
        _, ticket, index = first
        self._size -= 1
        return self._classes[index].pop(ticket)[1]

    @property
    def rank(self) -> int:
        """The class that the first has aged to, 1 to 9; 10 = nothing waits."""
        first = self._first()
        return CLASSES + 1 if first is None else first[0] + 1

    def displace(self, priority: int) -> T | None:
        """Remove and return the one that matters least, to make room for a `priority`; None = all matter as much.

        That is the newest of the lowest class, by the class it came with, and only one below `priority`.
        """
        for waiting in reversed(self._classes[priority:]):
            if waiting:
                self._size -= 1
                return waiting.popitem()[1][1]
        return None

    def ordered(self) -> Iterator[T]:
        """Yield all that wait, in the order in which `pop` gives them; the queue must not change meanwhile."""
        now = self._clock()
        classes = [self._ranked(index, waiting, now) for index, waiting in enumerate(self._classes) if waiting]
        # Within a class the oldest is first, and no later one has a better rank.
        return (item for _, _, item in heapq.merge(*classes, key=lambda entry: entry[:2]))

    def remove(self, place: tuple[int, int]) -> bool:
        """Take one that gave up out of the queue; False when it had left already."""
        priority, ticket = place
        if self._classes[priority - 1].pop(ticket, None) is None:
            return False
        self._size -= 1
        return True

    def _first(self) -> tuple[int, int, int] | None:
        """Return (aged class from 0, ticket, class from 0) of the first, or None."""
        now = self._clock()
        best: tuple[int, int, int] | None = None
        for index, waiting in enumerate(self._classes):
            if not waiting:
                continue
            ticket = next(iter(waiting))
            found = (self._rank(index, now - waiting[ticket][0]), ticket, index)
            if best is None or found < best:
                best = found
        return best

    def _ranked(
        self, index: int, waiting: OrderedDict[int, tuple[float, T]], now: float
    ) -> Iterator[tuple[int, int, T]]:
        for ticket, (since, item) in waiting.items():
            yield self._rank(index, now - since), ticket, item

    def _rank(self, index: int, waited_s: float) -> int:
        if self._ageing_s <= 0:
            return index
        return max(0, index - int(waited_s / self._ageing_s))
