"""The replay ring of a resumable stream: its events by number, the unsent ones and as many sent ones as fit.

Events are numbered from 1 as they are delivered. What its reader was not sent is never dropped; what it was sent is
kept up to the bound, for the case that it comes back. A quarter of the bound belongs to sent events, so the ring is
*full* when the unsent ones fill the rest: then the upstream is to be paused, and read again at half the bound.
"""

from __future__ import annotations

from typing import Final, Protocol

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.sse import split_events

__all__ = ["CHARGE_BYTES", "EVENT_OVERHEAD_BYTES", "Memory", "Ring"]

#: What an event costs beside its bytes: an object's header and its place in the list, rounded up.
EVENT_OVERHEAD_BYTES: Final = 64
#: Memory is charged in steps of this, so that an event mostly costs no charge of its own.
CHARGE_BYTES: Final = 4096
#: Empty places at the front of the list are given back from this many on.
_COMPACT: Final = 512


class Memory(Protocol):
    """What a ring is charged to: a `Budget`'s account, or something that makes room in one."""

    def reserve(self, size_bytes: int) -> bool:
        """Take `size_bytes`, or return False and take nothing."""

    def release(self, size_bytes: int) -> None:
        """Give `size_bytes` back."""


class Ring:
    """Numbered events of one stream, for one reader at a time.

    Args:
        bound_bytes: for all events together, `EVENT_OVERHEAD_BYTES` for each counted in. Unsent events may pass it by
            one read from the engine, as the pause comes after it.
        memory: charged with what is held.
    """

    __slots__ = (
        "_base",
        "_bound_bytes",
        "_charged_bytes",
        "_events",
        "_memory",
        "_start",
        "last",
        "sent",
        "size_bytes",
        "unsent_bytes",
    )

    def __init__(self, bound_bytes: int, memory: Memory) -> None:
        self._bound_bytes = bound_bytes
        self._memory = memory
        #: `_events[i]` is event `_base + i + 1`; the first `_start` places are empty.
        self._events: list[bytes] = []
        self._base = 0
        self._start = 0
        self._charged_bytes = 0
        #: The newest event; 0 = none yet.
        self.last = 0
        #: The newest event that the present reader, or the last one, was sent.
        self.sent = 0
        self.size_bytes = 0
        self.unsent_bytes = 0

    @property
    def oldest(self) -> int:
        """The oldest event that is kept; one more than `last` where none is."""
        return self._base + self._start + 1

    @property
    def full(self) -> bool:
        """Unsent events fill their part: pause the upstream."""
        return self.unsent_bytes > self._bound_bytes * 3 // 4

    @property
    def roomy(self) -> bool:
        """Few enough are unsent to read from a paused upstream again."""
        return self.unsent_bytes <= self._bound_bytes // 2

    def append(self, data: bytes, *, last_words: bool = False) -> bool:
        """Number and keep whole events.

        Args:
            data: the events' bytes, joined.
            last_words: the end of a stream, a few hundred bytes, which is kept even where memory is used up.

        Returns:
            False if memory is used up, with nothing kept of `data`: the stream cannot go on without a gap.
        """
        events = split_events(data)
        count = len(events)
        size = len(data) + EVENT_OVERHEAD_BYTES * count
        if self.size_bytes + size > self._charged_bytes and not self._charge(size) and not last_words:
            return False
        self._events += events
        self.last += count
        self.size_bytes += size
        self.unsent_bytes += size
        if self.size_bytes > self._bound_bytes:
            self._trim()
        return True

    def rewind(self, after: int) -> None:
        """Begin anew behind event `after`: what follows it is unsent again.

        Raises:
            HeadraceError: GONE, an event that is wanted was dropped; INVALID_REQUEST, there is no event `after` yet.
        """
        if after > self.last:
            text = f"This stream has {self.last} events so far, so nobody can have read event {after}."
            raise HeadraceError(Code.INVALID_REQUEST, text)
        if after + 1 < self.oldest:
            text = f"Event {after + 1} is no longer kept; the oldest one is {self.oldest}. Ask the question again."
            raise HeadraceError(Code.GONE, text)
        self.sent = after
        self.unsent_bytes = sum(len(event) + EVENT_OVERHEAD_BYTES for event in self._events[after - self._base :])
        self._trim()

    def take(self, limit_bytes: int) -> list[bytes]:
        """Return the next unsent events, at least one if there is one, of about `limit_bytes`; they count as sent.

        The first of them has the number that `sent` had before, plus one.
        """
        if self.sent + 1 == self.last:
            # The reader is up to date, as it nearly always is.
            newest = self._events[-1:]  # before the ring lets go of one that is larger than its bound
            self.sent = self.last
            self.unsent_bytes = 0
            if self.size_bytes > self._bound_bytes:
                self._trim()
            return newest
        taken: list[bytes] = []
        size = 0
        for index in range(self.sent - self._base, len(self._events)):
            event = self._events[index]
            taken.append(event)
            size += len(event)
            if size >= limit_bytes:
                break
        self.sent += len(taken)
        self.unsent_bytes -= size + EVENT_OVERHEAD_BYTES * len(taken)
        self._trim()
        return taken

    def clear(self) -> None:
        """Give everything back; the ring is not used again."""
        self._memory.release(self._charged_bytes)
        self._base = self.sent = self.last
        self._events.clear()
        self._start = self.size_bytes = self.unsent_bytes = self._charged_bytes = 0

    def _charge(self, size: int) -> bool:
        """Have room charged for `size` more, at the cost of sent events if it must be; False if there is none."""
        while (need := self.size_bytes + size - self._charged_bytes) > 0:
            for step in (max(need, CHARGE_BYTES), need):
                if self._memory.reserve(step):
                    self._charged_bytes += step
                    return True
            if not self._drop_oldest():
                return False
        return True

    def _trim(self) -> None:
        while self.size_bytes > self._bound_bytes and self._drop_oldest():
            pass

    def _drop_oldest(self) -> bool:
        """Drop the oldest event; False if it is not there or not sent."""
        if self.oldest > self.sent:
            return False
        size = len(self._events[self._start]) + EVENT_OVERHEAD_BYTES
        self._events[self._start] = b""
        self._start += 1
        self.size_bytes -= size
        if (spare := self._charged_bytes - self.size_bytes) > 2 * CHARGE_BYTES:
            self._charged_bytes -= spare - CHARGE_BYTES
            self._memory.release(spare - CHARGE_BYTES)
        if self._start >= _COMPACT and self._start * 2 >= len(self._events):
            del self._events[: self._start]
            self._base += self._start
            self._start = 0
        return True
