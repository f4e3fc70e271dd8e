"""One request's way through the backends: choose, try, retry before the first event, stop when the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from edge.protocol.refusals import Verdict
from edge.protocol.request import Call
from edge.protocol.states import StreamState
from edge.relay.backends import Backend, Backends
from edge.relay.leg import Leg
from edge.relay.runner import LegTimings
from edge.streams.contracts import Outcome, Reply
from edge.streams.stream import Stream
from streamkit.flow.breaker import Ticket
from streamkit.flow.permits import Permit
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import Usage, error_of
from streamkit.wire.route import Candidate

__all__ = ["Relay", "RelaySettings"]


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to try."""

    max_attempts: int
    finish_grace_s: float
    legs: LegTimings


class Relay:
    """Runs the legs of one request.

    Args:
        call: what is asked.
        stream: the client's side.
        candidates: where it may go, best first.
        backends: this edge's backends.
        budget: of the worker's retries.
        settings: how hard to try.
        metrics: where retries are counted.
        headers: forwarded to every engine.
        sim: the client's `X-Sim`, for simulators only.
        on_settled: called once the client's side and every upstream are over.
    """

    __slots__ = (
        "_backends",
        "_budget",
        "_call",
        "_candidates",
        "_freed",
        "_grace",
        "_headers",
        "_last",
        "_leg",
        "_legs",
        "_loop",
        "_metrics",
        "_on_settled",
        "_settings",
        "_sim",
        "_stream",
        "attempts",
        "served_by",
        "usage",
    )

    def __init__(
        self,
        *,
        call: Call,
        stream: Stream,
        candidates: Sequence[Candidate],
        backends: Backends,
        budget: RetryBudget,
        settings: RelaySettings,
        metrics: Metrics,
        headers: tuple[tuple[bytes, bytes], ...],
        sim: bytes,
        on_settled: Callable[[Relay], None],
    ) -> None:
        self._call = call
        self._stream = stream
        self._candidates = list(candidates)
        self._backends = backends
        self._budget = budget
        self._settings = settings
        self._metrics = metrics
        self._headers = headers
        self._sim = sim
        self._on_settled: Callable[[Relay], None] | None = on_settled
        self._loop = asyncio.get_running_loop()
        self._leg: Leg | None = None
        self._legs = 0
        self._last: tuple[Verdict, Outcome | None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._freed = False
        self.attempts = 0
        #: The backend that answers, or answered last.
        self.served_by: Backend | None = None
        self.usage: Usage | None = None
        stream.on_gone = self._client_gone

    def start(self) -> None:
        """Begin the first attempt."""
        self._budget.deposit()
        self._try_next()

    def stop(self, error: HeadraceError) -> None:
        """End the client's side in `error` and give the upstream up."""
        self._stream.fail(error)
        if self._leg is not None:
            self._leg.cancel()
        self.check_over()

    # Runner

    def flowing(self, leg: Leg) -> None:
        """The first event is here: this leg serves the stream."""
        self._stream.upstream = leg.attempt

    def answered(self, leg: Leg, outcome: Outcome) -> None:
        """A whole, successful answer."""
        if not self._stream.state.ended:
            kind = outcome.content_type or b"application/json"
            self._stream.answer(Reply(status=outcome.status, body=outcome.body, content_type=kind))

    def refused(self, leg: Leg, verdict: Verdict, outcome: Outcome | None, *, free: bool) -> None:
        """An attempt failed before any first event: another candidate, or the end."""
        if leg is not self._leg:
            return
        self._leg = None
        self._last = (verdict, outcome)
        if self._stream.state.ended:
            return
        if free and not self._freed:
            # The engine closed the pooled connection before it saw the request; its other idle ones are no better.
            self._freed = True
            leg.backend.pool.close()
            self._count_retry("stale")
            self._candidates.insert(0, leg.backend.candidate)
            self._try_next()
        elif verdict.retry and self._may_retry():
            self._count_retry("refused")
            self._try_next()
        else:
            self._give_up()

    def settled(self, leg: Leg) -> None:
        """A leg is over."""
        self._legs -= 1
        if leg.usage is not None:
            self.usage = leg.usage
        if leg is self._leg:
            self._leg = None
        self.check_over()

    def check_over(self) -> None:
        """Settle if the client's side and every upstream are over."""
        if self._legs or not self._stream.state.ended or self._on_settled is None:
            return
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        on_settled, self._on_settled = self._on_settled, None
        on_settled(self)

    # Inside

    def _try_next(self) -> None:
        """Open a leg at the first candidate that takes it."""
        shut: int | None = None
        full = False
        while self._candidates:
            backend = self._backends.of(self._candidates.pop(0))
            ticket = backend.breaker.permit()
            if ticket is None:
                shut = min(shut or 3_600_000, backend.breaker.retry_after_ms or 1_000)
            elif (permit := backend.permits.try_acquire()) is None:
                ticket.abandoned()
                full = True
            else:
                self._open(backend, permit, ticket)
                return
        if self._last is None:
            self._last = (_unavailable(shut, full=full), None)
        self._give_up()

    def _open(self, backend: Backend, permit: Permit, ticket: Ticket) -> None:
        self.attempts += 1
        self._legs += 1
        self.served_by = backend
        leg = self._leg = Leg(
            self,
            self._stream,
            backend,
            self._call,
            permit=permit,
            ticket=ticket,
            timings=self._settings.legs,
            loop=self._loop,
        )
        headers = self._headers
        if self._sim and backend.candidate.capabilities.simulated:
            headers = (*headers, (b"x-sim", self._sim), (b"x-sim-attempt", b"%d" % self.attempts))
        leg.open(headers)

    def _may_retry(self) -> bool:
        return bool(self._candidates) and self.attempts < self._settings.max_attempts and self._budget.withdraw()

    def _count_retry(self, why: str) -> None:
        self._metrics.counter(catalog.RETRIES, why).value += 1

    def _give_up(self) -> None:
        """Tell the client what the last attempt met."""
        if self._stream.state.ended or self._last is None:
            return
        verdict, outcome = self._last
        if verdict.error is not None:
            self._stream.fail(verdict.error)
            return
        body = outcome.body if outcome is not None else b""
        said = error_of(body, event=False)
        code = Code.NOT_FOUND if verdict.status == 404 else Code.INVALID_REQUEST
        error = HeadraceError(code, said.message if said else f"The backend refused with HTTP {verdict.status}.")
        if self._stream.state is StreamState.PENDING and said is not None:
            # The engine's own verdict on the request, byte for byte.
            self._stream.answer(Reply(status=verdict.status, body=body), error)
        else:
            self._stream.fail(error)

    def _client_gone(self) -> None:
        """Stop the upstream; one that has only its usage left to say gets a moment for it (law 6)."""
        leg = self._leg
        if leg is None:
            self.check_over()
        elif leg.finish_seen and not leg.state.ended:
            self._grace = self._loop.call_later(self._settings.finish_grace_s, leg.cancel)
        else:
            leg.cancel()


def _unavailable(shut_ms: int | None, *, full: bool) -> Verdict:
    """What to say when no candidate could even be tried."""
    if full:
        error = HeadraceError(Code.SATURATED, "All backends of this model are at their limit. Try again shortly.")
    else:
        text = "Every backend of this model has been failing and is left alone for a moment."
        error = HeadraceError(Code.NO_BACKEND, text, retry_after_ms=shut_ms or 1_000)
    return Verdict(False, False, error, error.wire.status)
