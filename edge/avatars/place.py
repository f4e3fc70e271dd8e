"""A viewer's place in a session: what it was told of speech, numbered, so that who comes back to it misses nothing.

A connection that breaks tells nobody what of the last messages arrived. So they are kept for a while, and the viewer
that resumes says which it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from edge.avatars.tick import playback
from streamkit.wire.pb import compositor_pb2 as pb

if TYPE_CHECKING:
    from edge.avatars.session import Session
    from edge.avatars.viewer import Viewer

__all__ = ["Place", "Places", "passed"]

#: What is kept of one place.
_MESSAGES: Final = 128
_BYTES: Final = 64 * 1024
#: A message from so long before its viewer was last heard may be lost as well: it was on its way.
_IN_FLIGHT_S: Final = 1.0
#: Names by which one place is found, the newest: an answer may be lost, and its offer made again.
_NAMES: Final = 4


class Place:
    """One place. Who has it may change; what was told stays.

    Args:
        session: where it is.
    """

    __slots__ = ("_bytes", "_heard_at", "_kept", "_number", "_unheard", "left_at", "names", "session", "viewer")

    def __init__(self, session: Session) -> None:
        self.session = session
        #: Who has it; None = it is kept for somebody who left.
        self.viewer: Viewer | None = None
        #: When the last one left it, and was last heard.
        self.left_at = self._heard_at = 0.0
        #: Viewers who have had it, the newest last.
        self.names: deque[str] = deque()
        self._number = 0
        self._kept: deque[tuple[int, float, bytes]] = deque()
        self._bytes = 0
        #: Units of speech that were on their way when it was interrupted, and never heard.
        self._unheard = 0

    def tell(self, message: dict[str, object]) -> None:
        """Tell who has it, now or later."""
        self._number += 1
        data = msgspec.json.encode({**message, "event_id": self._number})
        self._kept.append((self._number, monotonic(), data))
        self._bytes += len(data)
        while len(self._kept) > _MESSAGES or self._bytes > _BYTES:
            self._bytes -= len(self._kept.popleft()[2])
        if self.viewer is not None and self.viewer.welcomed:
            self.viewer.on_tell(data)

    def leave(self, viewer: Viewer) -> None:
        """A viewer is gone; its place is kept, unless somebody has it already."""
        if self.viewer is viewer:
            self.viewer = None
            self.left_at, self._heard_at = monotonic(), viewer.heard_at

    def arrived(self) -> int:
        """Return the number of the last message that certainly arrived, where the viewer does not say it."""
        sure = (self._heard_at if self.viewer is None else self.viewer.heard_at) - _IN_FLIGHT_S
        first = next((number for number, at, _ in self._kept if at > sure), self._number + 1)
        return first - 1

    def since(self, number: int) -> list[bytes]:
        """Return what was told after a message, as far as it is kept."""
        return [data for at, _, data in self._kept if at > number]

    def marks(self, unit: pb.Unit, *, dropped: bool) -> None:
        """Tell what a unit marks: what was dropped before it was heard has not begun."""
        for mark in unit.marks:
            if not dropped or mark.kind != pb.Mark.STARTED:
                self.tell(playback(mark, self._unheard_ms(mark)))

    def unheard(self) -> None:
        """A unit of speech was dropped for an interruption."""
        self._unheard += 1

    def _unheard_ms(self, mark: pb.Mark) -> int:
        """Return how much of what the compositor counts as spoken never went out to this place."""
        if not mark.interrupted:
            return 0
        units, self._unheard = self._unheard, 0
        return units * 1000 // max(1, self.session.opened.fps)


class Places:
    """The places of one edge, by the names of the viewers who have or had them.

    Args:
        window_s: one that was left is kept so long.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._places: dict[str, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def of(self, name: str) -> Place | None:
        """Return the place of a viewer, even one that left it."""
        return self._places.get(name)

    def sit(self, viewer: Viewer, place: Place | None) -> None:
        """Give a viewer a place: that of another, or a new one."""
        if place is None:
            place = Place(viewer.session)
            viewer.session.places.append(place)
        place.viewer = viewer
        viewer.place = place
        place.names.append(viewer.id)
        self._places[viewer.id] = place
        while len(place.names) > _NAMES:
            del self._places[place.names.popleft()]

    def tidy(self) -> None:
        """Give up places to which nobody came back."""
        end = monotonic() - self._window_s
        self.drop([place for place in self._places.values() if place.viewer is None and place.left_at <= end])

    def drop(self, places: Iterable[Place]) -> None:
        """Give up places."""
        for place in list(places):
            for name in place.names:
                self._places.pop(name, None)
            place.names.clear()
            if place in place.session.places:
                place.session.places.remove(place)


def passed(places: Iterable[Place], unit: pb.Unit, epoch: int) -> None:
    """A unit goes by places whose viewer is not there: they keep what it marks.

    Args:
        places: of a session.
        unit: that nobody gives them.
        epoch: of the session; speech of earlier ones is dropped.
    """
    for place in places if unit.marks else ():
        if place.viewer is None or not place.viewer.connected:
            place.marks(unit, dropped=unit.speaking and unit.epoch < epoch)
