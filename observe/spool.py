"""Events on their way to the broker: a queue with a bound in bytes, which drops the oldest and says so. No I/O.

Nothing leaves it before the broker has stored it, so what a feed may forget is known: `seen`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

__all__ = ["Spool", "Spooled"]

#: What an event costs beside its bytes.
_OVERHEAD_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class Spooled:
    """One event that waits."""

    id: str
    #: The feed that it came from, and its id there; empty = it came from no feed.
    feed: str
    subject: str
    data: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes here."""
        return len(self.data) + len(self.id) + len(self.subject) + _OVERHEAD_BYTES


class Spool:
    """The queue.

    Args:
        limit_bytes: bound of all that waits.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        #: Events that were dropped for want of room.
        self.dropped = 0
        #: Called when an event was taken.
        self.on_push: Callable[[], None] = _nobody
        self._waiting: OrderedDict[str, Spooled] = OrderedDict()
        self._stored: set[str] = set()
        self._seen: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._waiting) - len(self._stored)

    @property
    def seen(self) -> Mapping[str, str]:
        """By feed, the id up to which everything is stored, or was dropped."""
        return self._seen

    def push(self, event: Spooled) -> None:
        """Take an event; one that waits already is not taken twice. Never blocks."""
        if event.id in self._waiting or event.size > self.limit_bytes:
            self.dropped += event.id not in self._waiting
            return
        self._waiting[event.id] = event
        self.size_bytes += event.size
        while self.size_bytes > self.limit_bytes:
            oldest = next(iter(self._waiting))
            self.dropped += oldest not in self._stored
            self._leave(oldest)
        self.on_push()

    def next(self, count: int) -> list[Spooled]:
        """Return the oldest events that are not stored; they stay until `stored` says so."""
        return list(islice((event for id_, event in self._waiting.items() if id_ not in self._stored), count))

    def stored(self, id_: str) -> None:
        """An event is stored; those in front of it may still be on their way."""
        if id_ not in self._waiting:
            return
        self._stored.add(id_)
        while self._waiting and (oldest := next(iter(self._waiting))) in self._stored:
            self._leave(oldest)

    def _leave(self, id_: str) -> None:
        event = self._waiting.pop(id_)
        self._stored.discard(id_)
        self.size_bytes -= event.size
        if event.feed:
            self._seen[event.feed] = event.id


def _nobody() -> None:
    """Stand in for whoever will want to know."""
