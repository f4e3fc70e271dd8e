"""The feed behind `/v1/events`: one process tells whoever listens what happened, and waits for nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

__all__ = ["EventFeed", "FeedFull", "Published", "Subscription"]


class FeedFull(Exception):  # noqa: N818  it is a state, named as in queue.Full
    """The feed has as many subscribers as it allows."""


class Published(NamedTuple):
    """One event as it is sent."""

    name: str
    data: bytes  #: JSON


class Subscription:
    """One reader's bounded backlog; an async iterator that ends when the feed closes or drops it."""

    def __init__(self, backlog_bytes: int) -> None:
        self.dropped = False
        self._room = backlog_bytes
        self._waiting: deque[Published] = deque()
        self._closed = False
        self._wake = asyncio.Event()

    def offer(self, event: Published) -> bool:
        """Take `event`, or drop this subscription and return False when its backlog has no room."""
        if len(event.data) > self._room:
            self.dropped = True
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
    """

    def __init__(self, *, backlog_bytes: int = 256 * 1024, max_subscribers: int = 16) -> None:
        self.dropped = 0  #: Subscribers dropped for being slow.
        self._backlog_bytes = backlog_bytes
        self._max_subscribers = max_subscribers
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    @property
    def subscribers(self) -> int:
        """How many read now."""
        return len(self._subscriptions)

    def publish(self, name: str, fields: Mapping[str, object]) -> None:
        """Send one event to every subscriber, without waiting for any."""
        if self._subscriptions:
            event = Published(name, msgspec.json.encode(fields))
            for subscription in list(self._subscriptions):
                if not subscription.offer(event):
                    self._subscriptions.discard(subscription)
                    self.dropped += 1

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Hold a subscription for the length of the `with` block.

        Raises:
            FeedFull: `max_subscribers` read already.
        """
        if len(self._subscriptions) >= self._max_subscribers:
            raise FeedFull(f"{self._max_subscribers} subscribers already")
        subscription = Subscription(self._backlog_bytes)
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
        """End every subscription: a drain does not wait for readers of this feed."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
