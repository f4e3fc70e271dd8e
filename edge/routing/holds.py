"""Backends that this edge leaves alone for a while, because a healing act says so: a breaker that probes trip.

What trips it and what closes it again are the prober's streams, so that no user's request has to find out whether a
slow backend is well (docs/adr/0025-holds-are-breakers-of-the-prober.md). Each hold has an end: it comes with
control's word, and where control says nothing any more, when that has lasted as long as the hold was meant to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.wire.route import RouteAnswer
from streamkit.wire.state import Hold, Snapshot

__all__ = ["Holds", "tell_hold"]

_LOG = logging.getLogger("headrace.edge")


class Holds:
    """Holds for one node.

    Args:
        node: of this edge.
        silent_ms: milliseconds since control was heard; 0 = it answers.
        on_change: called with each hold that has begun, or ended by control's word, and which of both it is.
    """

    def __init__(
        self,
        node: str = "",
        *,
        silent_ms: Callable[[], float] = lambda: 0.0,
        on_change: Callable[[Hold, bool], None] = lambda _hold, _begun: None,
    ) -> None:
        self.node = node
        self._silent_ms = silent_ms
        self._on_change = on_change
        #: By backend: the one that lasts longest without control.
        self._holds: dict[str, Hold] = {}

    @property
    def held(self) -> frozenset[str]:
        """Names of the backends that get no new work now."""
        if not self._holds:
            return frozenset()
        silent_ms = self._silent_ms()
        return frozenset(name for name, hold in self._holds.items() if not hold.ttl_ms or silent_ms < hold.ttl_ms)

    def update(self, snapshot: Snapshot) -> None:
        """Put a newer snapshot's holds into force."""
        before, self._holds = self._holds, {}
        for hold in sorted(snapshot.holds, key=lambda hold: hold.ttl_ms):
            if hold.node in ("", self.node):
                self._holds[hold.backend] = hold
        for name, hold in self._holds.items():
            if name not in before:
                self._on_change(hold, True)
        for name, hold in before.items():
            if name not in self._holds:
                self._on_change(hold, False)

    def spared(self, answer: RouteAnswer) -> RouteAnswer:
        """Return an answer without the held backends, or as it is where nothing else would be left."""
        held = self.held
        if not held:
            return answer
        left = tuple(candidate for candidate in answer.candidates if candidate.backend not in held)
        if not left or len(left) == len(answer.candidates):
            return answer
        return msgspec.structs.replace(answer, candidates=left)


def tell_hold(feed: EventFeed, hold: Hold, *, begun: bool) -> None:
    """Log and publish that this edge heeds a hold, or does not any more."""
    name = "backend.held" if begun else "backend.released"
    fields = {"backend": hold.backend, "node": hold.node, "why": hold.why}
    log.event(_LOG, name, level=logging.WARNING, **fields)
    feed.publish(name, fields)
