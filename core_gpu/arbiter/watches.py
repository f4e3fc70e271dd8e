"""Who watches which lease: each change of state reaches its watchers; a slow one gets the newest."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from core_gpu.arbiter.lease import Happening

__all__ = ["Watch", "Watches", "WatchesFull"]

#: A lease has a handful of states in its life; a reader that is further behind gets the newest.
_BACKLOG: Final = 16


class WatchesFull(Exception):  # noqa: N818  it is a state, named as in queue.Full
    """There are as many watches as there may be."""


class Watch:
    """One reader's view of one lease."""

    def __init__(self) -> None:
        self._waiting: deque[Happening] = deque(maxlen=_BACKLOG)
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, happening: Happening) -> None:
        """Take what happened."""
        self._waiting.append(happening)
        self._wake.set()

    def close(self) -> None:
        """End after what already waits."""
        self._closed = True
        self._wake.set()

    async def next(self) -> Happening | None:
        """Return what happened next; None when the watch was closed."""
        while not self._waiting:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()


class Watches:
    """All watches of one arbiter.

    Args:
        limit: watches at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of_lease: dict[str, set[Watch]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def tell(self, happening: Happening) -> None:
        """Pass on what happened; a hook of the books."""
        for watch in self._of_lease.get(happening.lease.id, ()):
            watch.offer(happening)

    @contextmanager
    def of(self, lease_id: str) -> Iterator[Watch]:
        """Watch a lease for the length of the block.

        Raises:
            WatchesFull: there are `limit` already.
        """
        if self._count >= self._limit:
            raise WatchesFull(f"{self._limit} watches already")
        watch = Watch()
        self._of_lease.setdefault(lease_id, set()).add(watch)
        self._count += 1
        try:
            yield watch
        finally:
            self._count -= 1
            watches = self._of_lease[lease_id]
            watches.discard(watch)
            if not watches:
                del self._of_lease[lease_id]

    def close(self) -> None:
        """End all: the arbiter goes away."""
        for watches in self._of_lease.values():
            for watch in watches:
                watch.close()
