"""The feed behind `/v1/events`: one process tells whoever listens what happened, and waits for nobody.

The newest events are kept within a bound in bytes, so that a reader which lost its connection goes on where it was:
each event has an id, `life-number-milliseconds`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

__all__ = ["EVERYTHING", "LOST", "EventFeed", "EventId", "FeedFull", "Published", "Subscription"]

#: In the place of an id: from the oldest event that is kept.
EVERYTHING: Final = "0"
#: What an event costs beside its JSON.
_OVERHEAD_BYTES: Final = 256
#: The event that stands for those which a reader comes too late for.
LOST: Final = "feed.lost"


class FeedFull(Exception):  # noqa: N818  it is a state, named as in queue.Full
    """The feed has as many subscribers as it allows."""


class EventId(NamedTuple):
    """What tells one event of one process life from every other."""

    life: str
    number: int  #: from 1 on
    at_ms: int  #: milliseconds since 1970

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Return the id that `text` is; None = it is none."""
        life, _, rest = text.partition("-")
        number, _, at_ms = rest.partition("-")
        if not (life and number.isdecimal() and at_ms.isdecimal()) or len(text) > 100:
            return None
        return cls(life, int(number), int(at_ms))

    def __str__(self) -> str:
        return f"{self.life}-{self.number}-{self.at_ms}"


class Published(NamedTuple):
    """One event as it is sent."""

    name: str
    data: bytes  #: JSON
    id: EventId


class Subscription:
    """One reader's bounded backlog; an async iterator that ends when the feed closes or drops it.

    Args:
        backlog_bytes: bound of what may wait beside `kept`.
        kept: what is read first; the feed holds these bytes anyway.
    """

    def __init__(self, backlog_bytes: int, kept: tuple[Published, ...] = ()) -> None:
        self.dropped = False
        self._kept = deque(kept)
        self._room = backlog_bytes
        self._waiting: deque[Published] = deque()
        self._closed = False
        self._wake = asyncio.Event()

    def offer(self, event: Published) -> bool:
        """Take `event`, or drop this subscription and return False when its backlog has no room."""
        if len(event.data) > self._room:
            self.dropped = True
            self._kept.clear()
            self._waiting.clear()
            self.close()
            return False
        self._room -= len(event.data)
        self._waiting.append(event)
        self._wake.set()
        return True

    def close(self) -> None:
        """End the iteration after what already waits."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Published]:
        return self

    async def __anext__(self) -> Published:
        if self._kept:
            return self._kept.popleft()
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        event = self._waiting.popleft()
        self._room += len(event.data)
        return event


class EventFeed:
    """A broadcast of low-rate events, bounded for every subscriber.

    Args:
        backlog_bytes: JSON bytes that may wait for one subscriber; one event more, and it is dropped.
        max_subscribers: readers at a time.
        history_bytes: memory for events that are kept for readers which come back.
        now: the wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        *,
        backlog_bytes: int = 256 * 1024,
        max_subscribers: int = 16,
        history_bytes: int = 4 * 1024 * 1024,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.dropped = 0  #: Subscribers dropped for being slow.
        self.life = f"{int(now() * 1000):x}{secrets.token_hex(4)}"
        self._now = now
        self._backlog_bytes = backlog_bytes
        self._max_subscribers = max_subscribers
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self._number = 0
        self._history: deque[Published] = deque()
        self._history_room = history_bytes

    @property
    def subscribers(self) -> int:
        """How many read now."""
        return len(self._subscriptions)

    @property
    def history_bytes(self) -> int:
        """Memory of the events that are kept."""
        return sum(len(event.data) + _OVERHEAD_BYTES for event in self._history)

    def publish(self, name: str, fields: Mapping[str, object]) -> None:
        """Send one event to every subscriber, without waiting for any."""
        self._number += 1
        id_ = EventId(self.life, self._number, int(self._now() * 1000))
        event = Published(name, msgspec.json.encode(fields), id_)
        self._keep(event)
        for subscription in list(self._subscriptions):
            if not subscription.offer(event):
                self._subscriptions.discard(subscription)
                self.dropped += 1

    @contextmanager
    def subscribe(self, after: str | None = None) -> Iterator[Subscription]:
        """Hold a subscription for the length of the `with` block.

        Args:
            after: the id of the last event that the reader has, of whatever life; None = it wants no older ones.

        Raises:
            FeedFull: `max_subscribers` read already.
        """
        if len(self._subscriptions) >= self._max_subscribers:
            raise FeedFull(f"{self._max_subscribers} subscribers already")
        subscription = Subscription(self._backlog_bytes, () if after is None else tuple(self._after(after)))
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def lose(self) -> None:
        """Count a subscriber whose connection stopped taking bytes."""
        self.dropped += 1

    def close(self) -> None:
        """End every subscription, after what waits: nothing more will happen."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

    def _keep(self, event: Published) -> None:
        self._history.append(event)
        self._history_room -= len(event.data) + _OVERHEAD_BYTES
        while self._history_room < 0:
            self._history_room += len(self._history.popleft().data) + _OVERHEAD_BYTES

    def _after(self, text: str) -> Iterator[Published]:
        """Yield what is kept of the events behind one, and before it how many are not kept any more."""
        seen = EventId.parse(text)
        # A reader of an earlier life wants all of this one.
        known = (seen.number if seen.life == self.life else 0) if seen is not None else None
        oldest = self._history[0].id.number if self._history else self._number + 1
        if known is not None and known < oldest - 1:
            gone = EventId(self.life, oldest - 1, self._history[0].id.at_ms if self._history else 0)
            yield Published(LOST, msgspec.json.encode({"count": oldest - 1 - known}), gone)
        yield from (event for event in self._history if event.id.number > (known or 0))
