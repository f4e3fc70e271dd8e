"""What a channel does when it is full. Law 2: every buffer has a bound in bytes and a policy for when it is reached.

| policy     | for                          | when an item does not fit                                            |
|------------|------------------------------|----------------------------------------------------------------------|
| Pause      | tokens: nothing may be lost  | the source was told to pause at the high mark; beyond the bound: no  |
| DropOldest | events, metrics              | the oldest make room                                                 |
| Latest     | raw video frames, positions  | only the newest is kept, whether or not there is room                |
| Disconnect | subscribers that can rejoin  | the channel breaks                                                   |
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from streamkit.flow.marks import Marks

__all__ = ["Disconnect", "DropOldest", "Latest", "Pause", "Policy", "Verdict"]


class Verdict(enum.Enum):
    """What becomes of an item that a channel is offered."""

    TAKE = enum.auto()
    DROP_OLDEST = enum.auto()  #: drop one item from the old end, and ask again
    REFUSE = enum.auto()  #: tell the writer
    BREAK = enum.auto()  #: break the channel


class Policy:
    """Decides about one channel; sees every item go in and out. A policy serves one channel."""

    __slots__ = ()

    def offered(self, *, fits: bool, waiting: int) -> Verdict:
        """Say what becomes of the next item.

        Args:
            fits: it would stay within the channel's bounds.
            waiting: items in the channel.
        """
        raise NotImplementedError

    def added(self, size_bytes: int) -> None:
        """An item of this size went in."""

    def removed(self, size_bytes: int) -> None:
        """An item of this size went out, read or dropped."""


class Pause(Policy):
    """Loses nothing: tells the source to pause above the high mark and to go on at the low mark.

    What a source still sends after `on_pause` fits between the mark and the channel's bound; a source that ignores
    the mark is refused at the bound.

    Args:
        high_bytes: pause above this; below the channel's bound by at least one read of the source.
        low_bytes: go on at this; a quarter of the high mark when left out.
        on_pause: called once for each crossing.
        on_resume: called once for each return.
    """

    __slots__ = ("_marks",)

    def __init__(
        self,
        high_bytes: int,
        low_bytes: int | None = None,
        *,
        on_pause: Callable[[], None],
        on_resume: Callable[[], None],
    ) -> None:
        self._marks = Marks(high_bytes, low_bytes, on_pause=on_pause, on_resume=on_resume)

    def offered(self, *, fits: bool, waiting: int) -> Verdict:
        """Take what fits, refuse the rest."""
        return Verdict.TAKE if fits else Verdict.REFUSE

    def added(self, size_bytes: int) -> None:
        """Count in; may pause the source."""
        self._marks.add(size_bytes)

    def removed(self, size_bytes: int) -> None:
        """Count out; may let the source go on."""
        self._marks.remove(size_bytes)


class DropOldest(Policy):
    """Keeps the newest items that fit; an item larger than the whole channel is refused."""

    __slots__ = ()

    def offered(self, *, fits: bool, waiting: int) -> Verdict:
        """Make room from the old end."""
        if fits:
            return Verdict.TAKE
        return Verdict.DROP_OLDEST if waiting else Verdict.REFUSE


class Latest(Policy):
    """Keeps the newest item only."""

    __slots__ = ()

    def offered(self, *, fits: bool, waiting: int) -> Verdict:
        """Drop what waits, then take the item if it fits alone."""
        if waiting:
            return Verdict.DROP_OLDEST
        return Verdict.TAKE if fits else Verdict.REFUSE


class Disconnect(Policy):
    """Breaks the channel at the first item that does not fit: a slow reader starts again from the current state."""

    __slots__ = ()

    def offered(self, *, fits: bool, waiting: int) -> Verdict:
        """Take what fits, break at the rest."""
        return Verdict.TAKE if fits else Verdict.BREAK
