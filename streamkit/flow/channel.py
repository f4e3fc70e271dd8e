"""A bounded channel from callbacks to one reader: writes never wait, reads do.

Bounded in bytes and in items; a `Policy` says what happens beyond. The errors are anyio's, with anyio's meanings, so
that nobody has to learn a second set; the channel itself needs asyncio only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, NamedTuple, TypeVar

from streamkit.flow.policy import Policy, Verdict

__all__ = [
    "BrokenResourceError",
    "BusyResourceError",
    "Channel",
    "ClosedResourceError",
    "EndOfStream",
    "Statistics",
    "WouldBlock",
]

T = TypeVar("T")


class EndOfStream(Exception):  # noqa: N818 - anyio's name
    """The writer has closed and everything has been read."""


class ClosedResourceError(Exception):
    """The channel was closed on this side."""


class BrokenResourceError(Exception):
    """The channel was aborted; its `__cause__` is the reason."""


class WouldBlock(Exception):  # noqa: N818 - anyio's name
    """No room (writing) or no item (reading) just now."""


class BusyResourceError(Exception):
    """A second task reads at the same time."""

    def __init__(self) -> None:
        super().__init__("another task is already reading from this channel")


class Statistics(NamedTuple):
    """A channel's state."""

    items: int  #: items that wait
    size_bytes: int  #: bytes that wait
    limit_items: int
    limit_bytes: int
    dropped_items: int  #: dropped by the policy since the start
    dropped_bytes: int
    reader_waits: bool  #: a task waits in `get`


class Channel(Generic[T]):
    """Items with their sizes, in order, from one event loop to one reader on it.

    Args:
        limit_bytes: the most bytes that may wait.
        policy: what happens to an item that does not fit.
        limit_items: the most items that may wait; their own overhead is not in their sizes.

    Raises:
        ValueError: a limit is not positive.
    """

    __slots__ = (
        "_broken_by",
        "_closed",
        "_dropped_bytes",
        "_dropped_items",
        "_items",
        "_level_bytes",
        "_limit_bytes",
        "_limit_items",
        "_policy",
        "_reader",
    )

    def __init__(self, limit_bytes: int, policy: Policy, *, limit_items: int = 65_536) -> None:
        if limit_bytes < 1 or limit_items < 1:
            raise ValueError(f"a channel needs positive limits, not {limit_bytes} bytes and {limit_items} items")
        self._limit_bytes = limit_bytes
        self._limit_items = limit_items
        self._policy = policy
        self._items: deque[tuple[T, int]] = deque()
        self._level_bytes = 0
        self._dropped_items = 0
        self._dropped_bytes = 0
        self._closed = False
        self._broken_by: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, item: T, size_bytes: int) -> None:
        """Add `item`, which counts for `size_bytes`.

        Raises:
            WouldBlock: it does not fit, and the policy neither drops nor breaks.
            ClosedResourceError: after `close`.
            BrokenResourceError: after `abort`, or because the policy has broken the channel just now.
            ValueError: the size is negative.
        """
        if size_bytes < 0:
            raise ValueError(f"an item cannot have {size_bytes} bytes")
        self._check_open()
        while True:
            fits = self._level_bytes + size_bytes <= self._limit_bytes and len(self._items) < self._limit_items
            verdict = self._policy.offered(fits=fits, waiting=len(self._items))
            if verdict is Verdict.TAKE:
                break
            if verdict is Verdict.DROP_OLDEST:
                self._dropped_items += 1
                self._dropped_bytes += self._take()[1]
                continue
            full = WouldBlock(f"no room for {size_bytes} bytes: {self._level_bytes} of {self._limit_bytes} are taken")
            if verdict is Verdict.BREAK:
                self.abort(full)
                self._check_open()
            raise full
        self._items.append((item, size_bytes))
        self._level_bytes += size_bytes
        self._wake()
        self._policy.added(size_bytes)

    def get_nowait(self) -> T:
        """Return the oldest item.

        Raises:
            WouldBlock: nothing waits.
            EndOfStream: closed, and all was read.
            BrokenResourceError: aborted.
        """
        if self._broken_by is not None:
            raise BrokenResourceError("the channel was aborted") from self._broken_by
        if self._items:
            return self._take()[0]
        if self._closed:
            raise EndOfStream
        raise WouldBlock("nothing waits in the channel")

    async def get(self) -> T:
        """Return the oldest item, waiting for one if need be. A cancelled `get` loses none.

        Raises:
            EndOfStream: closed, and all was read.
            BrokenResourceError: aborted, now or while waiting.
            BusyResourceError: another task is in `get`.
        """
        if self._reader is not None:
            raise BusyResourceError
        while not (self._items or self._closed or self._broken_by is not None):
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.get_nowait()

    def close(self) -> None:
        """End the channel: what waits can still be read, then `EndOfStream`. Again does nothing."""
        self._closed = True
        self._wake()

    def abort(self, error: BaseException) -> None:
        """Break the channel: what waits is dropped, and both sides get `BrokenResourceError` from `error`.

        The first abort counts. A source that was paused is let go on, so that it can notice.
        """
        if self._broken_by is not None:
            return
        self._broken_by = error
        while self._items:
            self._take()
        self._wake()

    def statistics(self) -> Statistics:
        """Return the channel's state."""
        return Statistics(
            items=len(self._items),
            size_bytes=self._level_bytes,
            limit_items=self._limit_items,
            limit_bytes=self._limit_bytes,
            dropped_items=self._dropped_items,
            dropped_bytes=self._dropped_bytes,
            reader_waits=self._reader is not None,
        )

    def _check_open(self) -> None:
        if self._broken_by is not None:
            raise BrokenResourceError("the channel was aborted") from self._broken_by
        if self._closed:
            raise ClosedResourceError("the channel is closed")

    def _take(self) -> tuple[T, int]:
        item, size_bytes = self._items.popleft()
        self._level_bytes -= size_bytes
        self._policy.removed(size_bytes)
        return item, size_bytes

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
