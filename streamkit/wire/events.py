"""What flows from a source to a sink: whole data events, as bytes, with marks (laws 4 and 8)."""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Batch", "Event", "Mark"]


class Mark(enum.IntFlag):
    """What a byte scan found out about an event. An event without marks is an ordinary delta."""

    DONE = 1  #: `data: [DONE]`
    ERROR = 2  #: an error frame, or `finish_reason: "error"`
    FINISH = 4  #: some choice's finish_reason is set
    USAGE = 8  #: a usage chunk: no choices, a usage object


class Event(msgspec.Struct, frozen=True, gc=False):
    """One whole data event: its lines and the blank line that ends it."""

    data: bytes
    marks: int = 0


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one read brought: whole data events, comments already dropped.

    `events` lists them one by one when any carries a mark; a batch of ordinary deltas has only the joined bytes,
    because nobody needs to look inside.
    """

    data: bytes  #: the events' bytes, joined
    count: int  #: how many
    marks: int = 0  #: union of their marks
    events: tuple[Event, ...] = ()

    def split(self) -> tuple[Event, ...]:
        """Return the events one by one, for ordinary batches too."""
        if self.events or not self.count:
            return self.events
        if self.count == 1:
            return (Event(self.data),)
        # An ordinary batch is LF-framed, one line an event (see EventSplitter's fast path).
        return tuple(Event(part + b"\n\n") for part in self.data.split(b"\n\n")[:-1])
