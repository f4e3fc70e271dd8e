"""A request's candidates, best first: who takes it now, and what to say when nobody does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge.protocol.refusals import Verdict
from edge.relay.backends import Backend, Backends
from streamkit.flow.breaker import Ticket
from streamkit.flow.permits import Permit
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import Candidate

__all__ = ["Choices", "Opening"]

_LONGEST_SHUT_MS = 3_600_000


class Opening(NamedTuple):
    """A backend that takes the request; permit and ticket are the taker's."""

    candidate: Candidate
    backend: Backend
    permit: Permit
    ticket: Ticket


class Choices:
    """The candidates that were not asked yet.

    Args:
        candidates: best first.
        backends: this edge's.
    """

    __slots__ = ("_backends", "_rest", "_shut_ms", "full")

    def __init__(self, candidates: Iterable[Candidate], backends: Backends) -> None:
        self._rest = list(candidates)
        self._backends = backends
        self._shut_ms: int | None = None
        #: Those that the last `take` passed over because their permits were all taken.
        self.full: list[tuple[Backend, Candidate]] = []

    def __bool__(self) -> bool:
        return bool(self._rest)

    def put_back(self, candidate: Candidate) -> None:
        """Make a candidate the first choice again."""
        self._rest.insert(0, candidate)

    def take(self) -> Opening | None:
        """Return the first that takes the request, or None; everybody asked is no choice any more."""
        if self.full:
            self.full = []
        while self._rest:
            candidate = self._rest.pop(0)
            backend = self._backends.of(candidate)
            ticket = backend.breaker.permit()
            if ticket is None:
                self._shut_ms = min(self._shut_ms or _LONGEST_SHUT_MS, backend.breaker.retry_after_ms or 1_000)
            elif (permit := backend.permits.try_acquire()) is None:
                ticket.abandoned()
                self.full.append((backend, candidate))
            else:
                return Opening(candidate, backend, permit, ticket)
        return None

    def has(self, rank: int) -> bool:
        """Say whether somebody is left for the model of that rank."""
        return any(candidate.rank == rank for candidate in self._rest)

    def beside(self, rank: int) -> Opening | None:
        """Return one that takes the request now beside another attempt at the same model; the others stay choices."""
        for candidate in self._rest:
            if candidate.rank != rank:
                continue
            backend = self._backends.of(candidate)
            ticket = backend.breaker.permit()
            if ticket is None:
                continue
            permit = backend.permits.try_acquire()
            if permit is not None:
                self._rest.remove(candidate)
                return Opening(candidate, backend, permit, ticket)
            ticket.abandoned()
        return None

    def granted(self, candidate: Candidate) -> None:
        """One of `full` has room after all: the others are choices again, for a retry."""
        self._rest = [other for _, other in self.full if other is not candidate]
        self.full = []
        # Another request may have used the backend for another of its models meanwhile.
        self._backends.of(candidate)

    def unavailable(self) -> Verdict:
        """Return what to say when no candidate could even be tried."""
        if self.full:
            error = HeadraceError(Code.SATURATED, "All backends of this model are at their limit. Try again shortly.")
        else:
            text = "Every backend of this model has been failing and is left alone for a moment."
            error = HeadraceError(Code.NO_BACKEND, text, retry_after_ms=self._shut_ms or 1_000)
        return Verdict(False, False, error, error.wire.status)
