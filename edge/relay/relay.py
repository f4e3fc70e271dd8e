"""One request's way through the backends: long, because retry, hedge and continuation are turns of one state.

Choose, try, retry before the first event, mend what breaks after it where that is allowed, stop when the client is
gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from edge.protocol.refusals import Verdict
from edge.protocol.request import Call
from edge.relay.backends import Backend
from edge.relay.choices import Choices
from edge.relay.continuation import Continuation
from edge.relay.headers import headers_of
from edge.relay.hedge import Race
from edge.relay.last_word import tell
from edge.relay.leg import Leg
from edge.relay.means import Means
from edge.relay.traced import RequestTrace
from edge.relay.trail import Trail
from edge.relay.waiting import Waiting
from edge.streams.contracts import Outcome, Reply
from edge.streams.stream import Stream
from streamkit.flow.breaker import Ticket
from streamkit.flow.permits import Permit
from streamkit.ops import catalog
from streamkit.wire.errors import HeadraceError
from streamkit.wire.openai import Usage
from streamkit.wire.route import Candidate

__all__ = ["Relay"]


class Relay:
    """Runs the legs of one request.

    Args:
        means: of this edge.
        call: what is asked.
        stream: the client's side.
        candidates: where it may go, best first.
        priority: 1 (highest) to 9.
        hedge_after_s: an attempt without an event for so long gets one beside it; None = never.
        headers: forwarded to every engine.
        trace: its spans, if it is sampled.
        sim: the client's `X-Sim`, for simulators only.
        on_settled: called once the client's side and every upstream are over.
    """

    __slots__ = (
        "_call",
        "_candidates",
        "_choices",
        "_freed",
        "_grace",
        "_headers",
        "_hedge_after_s",
        "_hedge_alarm",
        "_last",
        "_legs",
        "_loop",
        "_means",
        "_mend",
        "_mending",
        "_on_admitted",
        "_on_settled",
        "_race",
        "_sim",
        "_stream",
        "_waiting",
        "attempts",
        "first_chunk_s",
        "model",
        "priority",
        "queued_s",
        "served_by",
        "trail",
        "usage",
    )

    def __init__(
        self,
        *,
        means: Means,
        call: Call,
        stream: Stream,
        candidates: Sequence[Candidate],
        priority: int,
        hedge_after_s: float | None,
        headers: tuple[tuple[bytes, bytes], ...],
        sim: bytes,
        trace: RequestTrace | None = None,
        on_settled: Callable[[Relay], None],
    ) -> None:
        self._means = means
        self._call = call
        self._stream = stream
        self._candidates = candidates
        self._choices = Choices(candidates, means.backends)
        self._hedge_after_s = hedge_after_s
        self._hedge_alarm: asyncio.TimerHandle | None = None
        #: What remembers the stream, where it may be continued.
        self._mend: Continuation | None = None
        self._mending = False
        self.priority = priority
        self._waiting: Waiting | None = None
        self._on_admitted: Callable[[], None] | None = None
        #: Time in the queue, in seconds; 0 = a permit was free.
        self.queued_s = 0.0
        #: What the engine that answers took to its first event, in seconds; of a continued answer the first one.
        self.first_chunk_s = 0.0
        self._headers = headers
        self._sim = sim
        self._on_settled: Callable[[Relay], None] | None = on_settled
        self._loop = asyncio.get_running_loop()
        self._race = Race(means.hedging)
        self._legs = 0
        self._last: tuple[Verdict, Outcome | None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._freed = False
        self.attempts = 0
        #: What they did, and when.
        self.trail = Trail(trace)
        #: The backend that answers, or answered last.
        self.served_by: Backend | None = None
        #: And the engine's name for the model there.
        self.model = ""
        self.usage: Usage | None = None
        stream.on_gone = self._client_gone

    def start(self) -> None:
        """Begin the first attempt."""
        self._means.budget.deposit()
        if self._hedge_after_s is not None:
            self._means.hedging.budget.deposit()
        self._try_next()

    def once_admitted(self, call: Callable[[], None]) -> None:
        """Call `call` when the request waits for no permit: now, or when it gets one."""
        if self._waiting is None:
            call()
        else:
            self._on_admitted = call

    def stop(self, error: HeadraceError) -> None:
        """End the client's side in `error` and give the upstream up."""
        self._stream.fail(error)
        self._leave_queue()
        self._cancel_all()
        self.check_over()

    # Applicant, Evictable

    def admitted(self, candidate: Candidate, backend: Backend, permit: Permit, ticket: Ticket) -> None:
        """One of the backends that were full has room; the others are there for a retry."""
        self._end_wait()
        self._choices.granted(candidate)
        self._open(candidate, backend, permit, ticket)
        on_admitted, self._on_admitted = self._on_admitted, None
        if on_admitted is not None:
            on_admitted()

    def turned_away(self, error: HeadraceError) -> None:
        """Nobody took the request: no GPU work was spent on it."""
        self._end_wait()
        self._stream.fail(error)
        self.check_over()

    def evict(self, error: HeadraceError) -> None:
        """Give way to a higher priority, before the first event."""
        for leg in self._race.legs():
            leg.backend.unborn.pop(self, None)
        self.stop(error)

    # Runner

    def flowing(self, leg: Leg) -> None:
        """The first event is here: this leg serves the stream."""
        leg.backend.unborn.pop(self, None)
        self._stop_hedge()
        loser = self._race.won(leg)
        if loser is not None:
            loser.backend.unborn.pop(self, None)
            loser.cancel()
        self.served_by, self.model = leg.backend, leg.candidate.model
        self._stream.upstream = leg.attempt
        self._stream.pull_into(None if self._call.probe else leg.backend.chunks(self._call.label, self.model))
        self.first_chunk_s = self.first_chunk_s or leg.first_s
        if self._mending and self._mend is not None:
            self._mending = False
            self._mend.joined()
            if self._stream.paused and leg.attempt is not None:
                leg.attempt.pause()

    def answered(self, leg: Leg, outcome: Outcome) -> None:
        """A whole, successful answer."""
        if not self._stream.state.ended:
            kind = outcome.content_type or b"application/json"
            self._stream.answer(Reply(status=outcome.status, body=outcome.body, content_type=kind))

    def refused(self, leg: Leg, verdict: Verdict, outcome: Outcome | None, *, free: bool) -> None:
        """An attempt failed before any first event: another candidate, or the end."""
        self.trail.failed(leg, verdict.error.code.value if verdict.error is not None else str(verdict.status))
        if leg not in self._race:
            return
        leg.backend.unborn.pop(self, None)
        self._last = (verdict, outcome)
        if self._race.out(leg) or self._stream.state.ended:
            return
        self._stop_hedge()
        if self._mending:
            self._go_on()
        elif free and not self._freed:
            # The engine closed the pooled connection before it saw the request; its other idle ones are no better.
            self._freed = True
            leg.backend.pool.close()
            self._count_retry("stale")
            self._choices.put_back(leg.candidate)
            self._try_next()
        elif verdict.retry and self._may_retry():
            self._count_retry("refused")
            self._try_next()
        else:
            self._give_up()

    def broke(self, leg: Leg, error: HeadraceError, frame: bytes | None) -> bool:
        """An answer broke off after its first event: let another engine go on with it, where that is allowed."""
        self.trail.failed(leg, error.code.value)
        if leg is not self._race.leg or not leg.candidate.continues or self._stream.state.ended:
            return False
        mend = self._mend
        if mend is None or leg.finish_seen or not mend.broke(error, frame, leg.candidate):
            return False
        self._race.over(leg)
        self._stream.upstream = None
        self._mending = True
        self._go_on()
        return True

    def settled(self, leg: Leg) -> None:
        """A leg is over."""
        self._legs -= 1
        self.trail.settled(leg)
        leg.backend.unborn.pop(self, None)
        if leg.usage is not None:
            joined = self._mend is not None and self._mend.joining
            self.usage = self._mend.whole(leg.usage) if self._mend is not None and joined else leg.usage
        self._race.over(leg)
        self.check_over()

    def check_over(self) -> None:
        """Settle if the client's side and every upstream are over."""
        if self._legs or not self._stream.state.ended or self._on_settled is None:
            return
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._stop_hedge()
        if self._mend is not None:
            self._mend.close()
        on_settled, self._on_settled = self._on_settled, None
        on_settled(self)

    # Inside

    def _try_next(self) -> None:
        """Open a leg at the first candidate that takes it; wait where they are all full."""
        opening = self._choices.take()
        if opening is not None:
            self._open(*opening)
            return
        if self._last is None:
            # A probe of what is full has found that out; in the line it would find out how long the line is.
            if self._choices.full and not self._call.probe:
                self._waiting = self._means.room.wait(self, self._choices.full)
                if self._waiting is not None:
                    return
            self._last = (self._choices.unavailable(), None)
        self._give_up()

    def _end_wait(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.queued_s = monotonic() - waiting.since
            self.trail.waited(waiting.since, self.queued_s)

    def _leave_queue(self) -> None:
        if self._waiting is not None:
            self._waiting.leave()
            self._end_wait()

    def _go_on(self) -> None:
        """Ask somebody to go on with the answer, or tell the client what broke it off."""
        mend = self._mend
        if mend is None or self._stream.state.ended:
            return
        opening = mend.choices.take() if self._may_try() else None
        if opening is None:
            mend.give_up()
            self.check_over()
        else:
            self._count_retry("continuation")
            self._open(*opening)

    def _hedge(self) -> None:
        """The first attempt is late: make another one beside it."""
        self._hedge_alarm = None
        leg = self._race.leg
        may = leg is not None and self._race.rival is None and self.attempts < self._means.settings.max_attempts
        if leg is None or not may or leg.flowing or not self._choices.has(leg.candidate.rank):
            return
        if self._means.hedging.may():
            opening = self._choices.beside(leg.candidate.rank)
            if opening is None:
                self._means.hedging.count("room")
            else:
                self._open(*opening, beside=True)

    def _stop_hedge(self) -> None:
        if self._hedge_alarm is not None:
            self._hedge_alarm.cancel()
            self._hedge_alarm = None

    def _open(
        self, candidate: Candidate, backend: Backend, permit: Permit, ticket: Ticket, *, beside: bool = False
    ) -> None:
        self.attempts += 1
        self._legs += 1
        call, mend = self._call, self._mend
        if candidate.continues and mend is None:
            mend = self._mend = self._means.continuations.of(call, self._stream, self._candidates)
        if self._mending and mend is not None:
            call = mend.call()
        elif call.stream:
            backend.unborn[self] = None
        leg = Leg(
            self,
            self._stream,
            backend,
            candidate,
            call,
            feed=mend.feed if mend is not None and candidate.continues else self._stream.feed,
            joins=self._mending,
            permit=permit,
            ticket=ticket,
            timings=self._means.settings.legs,
            loop=self._loop,
        )
        if beside:
            self._race.rival = leg
        else:
            self._race.leg = leg
            self.served_by, self.model = backend, candidate.model
            if self._hedge_after_s is not None and call.stream and not self._mending:
                self._hedge_alarm = self._loop.call_later(self._hedge_after_s, self._hedge)
        sim = self._sim if candidate.capabilities.simulated else b""
        headers = headers_of(self._headers, attempt=self.attempts, continues=self._mending, sim=sim)
        leg.open(self.trail.opened(leg, self.attempts, headers, hedge=beside))

    def _may_retry(self) -> bool:
        return (
            bool(self._choices)
            and self.attempts < self._means.settings.max_attempts
            and self._means.budget.withdraw()
        )

    def _may_try(self) -> bool:
        return self.attempts < self._means.settings.max_attempts and self._means.budget.withdraw()

    def _count_retry(self, why: str) -> None:
        self.trail.why = why
        self._means.metrics.counter(catalog.RETRIES, why).value += 1

    def _give_up(self) -> None:
        """Tell the client what the last attempt met."""
        if self._stream.state.ended or self._last is None:
            return
        tell(self._stream, *self._last)

    def _client_gone(self) -> None:
        """Stop the upstream; one that has only its usage left to say gets a moment for it (law 6)."""
        self._leave_queue()
        leg = self._race.leg
        if leg is not None and leg.finish_seen and not leg.state.ended:
            self._grace = self._loop.call_later(self._means.settings.finish_grace_s, leg.cancel)
        else:
            self._cancel_all()
            self.check_over()

    def _cancel_all(self) -> None:
        self._stop_hedge()
        for leg in self._race.legs():
            leg.cancel()
