"""Who may go to a backend now, who waits for it, and who gives way: the state of a request before it has an attempt.

A permit that is free is taken at once, and nothing here is made for it. Otherwise the request waits in the line
before all of its candidates' permits, for less time than its status line can wait, so that a refusal is a real 429.
While it waits it has no attempt, no permit, and no deadline of an attempt runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Protocol

import msgspec

from edge.protocol.states import AttemptEvent, AttemptState, next_attempt
from edge.relay.backends import Backend
from streamkit.flow.breaker import Ticket
from streamkit.flow.line import Line, Place
from streamkit.flow.permits import Permit, Permits
from streamkit.flow.queue import QueueFull
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import Candidate

__all__ = ["Applicant", "Waiting", "WaitingRoom", "WaitingSettings"]


class WaitingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who waits, how long, and for whom others give way."""

    #: Longest wait, in seconds; 0 = nobody waits.
    queue_s: float
    #: Requests of this class and above may evict those of a lower class than their own; 0 = nobody evicts.
    evict_classes: int


class Applicant(Protocol):
    """The request that waits."""

    @property
    def priority(self) -> int:
        """1 (highest) to 9."""

    def admitted(self, candidate: Candidate, backend: Backend, permit: Permit, ticket: Ticket) -> None:
        """Go: permit and ticket are yours."""

    def turned_away(self, error: HeadraceError) -> None:
        """Nobody takes it."""


class Waiting:
    """One request in the line: an attempt in its first state."""

    __slots__ = ("_applicant", "_choices", "_deadline", "_place", "_room", "since", "state")

    def __init__(self, room: WaitingRoom, applicant: Applicant, choices: list[tuple[Backend, Candidate]]) -> None:
        self._room = room
        self._applicant = applicant
        self._choices = choices
        #: When the waiting began, in monotonic seconds.
        self.since = monotonic()
        self._deadline = self.since + room.settings.queue_s
        self._place: Place | None = None
        self.state = AttemptState.QUEUED

    def enter(self) -> None:
        """Stand in the line.

        Raises:
            QueueFull: there is no room.
        """
        places = {backend.permits for backend, _ in self._choices}
        rest_s = max(0.0, self._deadline - monotonic())
        self._place = self._room.line.enter(places, self._applicant.priority, self, deadline_s=rest_s)

    def leave(self) -> None:
        """The client is gone, or nobody needs the answer any more."""
        if self._place is not None:
            self._place.leave()
            self._end(AttemptEvent.CANCEL, "left")

    # Waiter

    def granted(self, of: Permits, permit: Permit) -> None:
        """A backend has room. One whose breaker has opened meanwhile is no choice any more."""
        backend, candidate = next(choice for choice in self._choices if choice[0].permits is of)
        ticket = backend.breaker.permit()
        if ticket is not None:
            self._end(AttemptEvent.GRANTED, "granted")
            self._applicant.admitted(candidate, backend, permit, ticket)
            return
        permit.release()
        self._choices = [choice for choice in self._choices if choice[0] is not backend]
        try:
            if self._choices:
                self.enter()
                return
        except QueueFull:
            pass
        self._end(AttemptEvent.FAIL, "shut")
        text = "The backends of this model have begun to fail while the request waited for one of them."
        self._applicant.turned_away(
            HeadraceError(Code.NO_BACKEND, text, retry_after_ms=backend.breaker.retry_after_ms)
        )

    def displaced(self) -> None:
        """A higher class needed the room."""
        self._end(AttemptEvent.FAIL, "evicted")
        self._room.evicted("queued")
        self._applicant.turned_away(evicted())

    def expired(self) -> None:
        """Nothing became free in time."""
        self._end(AttemptEvent.FAIL, "expired")
        waited = f"{self._room.settings.queue_s:g} s"
        text = f"All backends of this model are at their limit, and none had room within {waited}. Try again shortly."
        self._applicant.turned_away(HeadraceError(Code.SATURATED, text))

    def _end(self, event: AttemptEvent, ending: str) -> None:
        self._place = None
        self.state = next_attempt(self.state, event)
        self._room.waited(ending, monotonic() - self.since)


class WaitingRoom:
    """The line of one edge process, and who may be evicted for whom.

    Args:
        line: watches the permits of all backends.
        settings: who waits, how long.
        metrics: where waits and evictions are counted.
    """

    def __init__(self, line: Line, settings: WaitingSettings, metrics: Metrics) -> None:
        self.line = line
        self.settings = settings
        self._metrics = metrics
        metrics.watch(catalog.QUEUE_WAITING, lambda: [((), float(line.waiting))])

    @property
    def busy(self) -> bool:
        """Requests wait: no time to spend permits on luxuries."""
        return self.line.waiting > 0

    def wait(self, applicant: Applicant, choices: list[tuple[Backend, Candidate]]) -> Waiting | None:
        """Let a request wait for any of `choices`, none of which has a permit free; None = there is no room.

        One of a high class makes a lower one give way, which has not had its first event: the newest of the lowest
        class. It gets no further than that: the line decides who takes what becomes free.
        """
        if self.settings.queue_s <= 0:
            return None
        waiting = Waiting(self, applicant, choices)
        try:
            waiting.enter()
        except QueueFull:
            return None
        if applicant.priority <= self.settings.evict_classes:
            self._make_room(applicant.priority, {backend for backend, _ in choices})
        return waiting

    def waited(self, ending: str, seconds: float) -> None:
        """Count one request's wait."""
        self._metrics.histogram(catalog.QUEUE_WAIT, ending).observe(seconds)

    def evicted(self, where: str) -> None:
        """Count one that gave way."""
        self._metrics.counter(catalog.EVICTIONS, where).value += 1

    def _make_room(self, priority: int, backends: Iterable[Backend]) -> None:
        found = [victim for backend in backends if (victim := backend.least_important()) is not None]
        victim = max(found, key=lambda one: one.priority, default=None)
        if victim is not None and victim.priority > priority:
            self.evicted("running")
            victim.evict(evicted())


def evicted() -> HeadraceError:
    """Return what is told to one that gave way."""
    text = "The request gave way to one of a higher priority before its answer began. Try again shortly."
    return HeadraceError(Code.EVICTED, text)
