"""One attempt at one backend: long, because first event, deadlines and the truth about the end are one judgement.

A leg is the `Sink` of its source. It holds the permit and the breaker's ticket until the upstream body has ended,
whatever the client does meanwhile (law 3), and it is where an engine's stream is judged complete or not (law 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from edge.protocol.answer import EngineAnswer, opens
from edge.protocol.refusals import Verdict, verdict, verdict_of_break, verdict_of_frame, verdict_of_no_event
from edge.protocol.request import Call
from edge.protocol.states import AttemptEvent, AttemptState, next_attempt
from edge.relay.backends import Backend
from edge.relay.runner import LegTimings, Runner
from edge.streams.contracts import Attempt, Ending, Outcome, UpstreamRequest
from edge.streams.quiet import Quiet
from edge.streams.stream import Stream
from streamkit.flow.breaker import Ticket
from streamkit.flow.permits import Permit
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.events import Batch, Event, Mark
from streamkit.wire.openai import Usage, payload_of, usage_of
from streamkit.wire.route import Candidate

__all__ = ["Leg"]


class Leg:
    """One attempt.

    Args:
        runner: told of the turning points.
        stream: fed once events flow.
        backend: where to.
        candidate: how the backend serves this request's model.
        call: what.
        feed: takes the events, as `Stream.feed` does.
        joins: it goes on with an answer that the client has the beginning of.
        permit: held until the upstream ends.
        ticket: settled when the upstream ends.
    """

    __slots__ = (
        "_answer",
        "_attempt",
        "_blame",
        "_broken",
        "_call",
        "_feed",
        "_flowing",
        "_given_up",
        "_held",
        "_held_bytes",
        "_joins",
        "_loop",
        "_permit",
        "_quiet",
        "_runner",
        "_stream",
        "_strip_usage",
        "_ticket",
        "_timings",
        "_why",
        "backend",
        "candidate",
        "first_at",
        "sent_at",
        "state",
    )

    def __init__(
        self,
        runner: Runner,
        stream: Stream,
        backend: Backend,
        candidate: Candidate,
        call: Call,
        *,
        feed: Callable[[bytes, int, float], None],
        joins: bool,
        permit: Permit,
        ticket: Ticket,
        timings: LegTimings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._runner: Runner | None = runner
        self._stream = stream
        self._feed = feed
        self._joins = joins
        self._broken = False
        self._call = call
        self._timings = timings
        self._loop = loop
        self._permit = permit
        self._ticket = ticket
        self.backend = backend
        self.candidate = candidate
        self.state = AttemptState.CONNECTING
        self._attempt: Attempt | None = None
        self._quiet: Quiet | None = None
        self._flowing = False
        self._given_up = False
        self._held: list[Event] = []
        self._held_bytes = 0
        self._blame: bool | None = None
        self._why = "failed"
        #: When the request was on a connection, and when its first event came; 0 = not yet.
        self.sent_at = 0.0
        self.first_at = 0.0
        self._strip_usage = (
            call.stream
            and candidate.capabilities.usage_chunk_only
            and not call.wants_usage
            and not call.continuous_usage
        )
        self._answer = EngineAnswer(
            backend.name,
            choices=call.n,
            strip_usage=self._strip_usage,
            sends_done=candidate.capabilities.sends_done,
        )

    @property
    def usage(self) -> Usage | None:
        """Token counts by the engine, once it has told them."""
        return self._answer.usage

    @property
    def error_type(self) -> str:
        """Why it failed, in a word; empty = it did not."""
        return self._why if self.state is AttemptState.FAILED else ""

    @property
    def first_s(self) -> float:
        """Seconds from sending the request to its first event; 0 = there was none."""
        return self.first_at - self.sent_at if self.first_at else 0.0

    @property
    def flowing(self) -> bool:
        """It has had its first event."""
        return self._flowing

    @property
    def finish_seen(self) -> bool:
        """Every choice has its finish_reason: only usage and `[DONE]` are still to come."""
        return self._answer.text_complete

    def open(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Send the request.

        Args:
            headers: request headers beyond the source's own.
        """
        request = UpstreamRequest(
            path=self._call.path(self.candidate.model),
            body=self._call.upstream_body(model=self.candidate.model, usage=self._strip_usage),
            stream=self._call.stream,
            one_choice=self._call.n == 1,
            deadline_s=None if self._call.stream else self._timings.response_s,
            headers=headers,
        )
        attempt = self.backend.source.open(request, self)
        # A source may deliver, and even end, before it returns.
        if not self.state.ended:
            self._attempt = attempt
            if self._given_up:
                attempt.cancel()
            elif self._flowing:
                self._stream.upstream = attempt
                if self._stream.paused:
                    attempt.pause()

    def cancel(self) -> None:
        """Give the attempt up; `Runner.settled` follows when the engine's slot can be counted free."""
        self._given_up = True
        if self._attempt is not None and not self.state.ended:
            self._attempt.cancel()

    @property
    def attempt(self) -> Attempt | None:
        """What a slow reader pauses."""
        return self._attempt

    # Sink

    def sent(self) -> None:
        """The request is on a connection."""
        self.state = next_attempt(self.state, AttemptEvent.SENT)
        self.sent_at = monotonic()
        silence_s = self._timings.first_event_s if self._call.stream else self._timings.response_s
        self._quiet = Quiet(self._loop, silence_s, self._silent)

    def feed(self, batch: Batch) -> None:
        """Take whole data events: the hot path."""
        if self._flowing and not batch.marks:
            now = monotonic()
            if self._quiet is not None:
                self._quiet.last = now
            self._feed(batch.data, batch.count, now)
        elif self._flowing:
            self._deliver(batch.events)
        elif self._runner is not None and self._blame is None and not self._given_up:
            self._await_first(batch)

    def end(self, outcome: Outcome) -> None:
        """The upstream is over: judge it, settle permit and breaker."""
        runner = self._runner
        if self._quiet is not None:
            self._quiet.stop()
            self._quiet = None
        self._attempt = None
        if outcome.ending is Ending.CANCELLED or self._blame is not None:
            self._settle(AttemptEvent.CANCEL if self._blame is None else AttemptEvent.FAIL)
        elif self._flowing:
            self._end_flowing(outcome)
        else:
            self._end_unborn(outcome)
        if runner is not None:
            self._runner = None
            runner.settled(self)

    # Before the first event

    def _await_first(self, batch: Batch) -> None:
        events = batch.split()
        for index, event in enumerate(events):
            if event.marks & Mark.ERROR:
                self._refuse(verdict_of_frame(self.backend.name, event.data), event=event)
                return
            if opens(event):
                self._first(events[index:])
                return
            self._hold(event)

    def _hold(self, event: Event) -> None:
        """Keep what is no first event yet, within the bound of one event."""
        self._held_bytes += len(event.data)
        if self._held_bytes > 64 * 1024:
            text = f"The backend {self.backend.name} sends only empty events."
            self._refuse(Verdict(True, True, HeadraceError(Code.BACKEND_ERROR, text), 502))
            return
        self._held.append(event)

    def _first(self, rest: tuple[Event, ...]) -> None:
        self.state = next_attempt(self.state, AttemptEvent.FIRST_EVENT)
        self.first_at = monotonic()
        self.backend.count_first(self._call.label, self.candidate.model, self.first_s)
        if self._quiet is not None:
            self._quiet.restart(self._timings.idle_s)
        self._flowing = True
        # Of an answer that goes on the client has the role chunk already.
        held, self._held = [] if self._joins else self._held, []
        if self._runner is not None:
            self._runner.flowing(self)
        self._deliver((*held, *rest))

    def _end_unborn(self, outcome: Outcome) -> None:
        """The upstream ended without a first event: an answer, a refusal, or a failure."""
        name = self.backend.name
        if outcome.ending is Ending.ANSWER and 200 <= outcome.status < 300 and not self._call.stream:
            self._answered(outcome)
            return
        if outcome.ending is Ending.BROKEN:
            told = verdict_of_break(name, outcome.error, stale=outcome.stale, unfit=outcome.unfit)
        elif outcome.ending is Ending.ANSWER and outcome.status >= 300:
            told = verdict(name, outcome.status, outcome.body)
        else:
            told = verdict_of_no_event(name, outcome.content_type if outcome.ending is Ending.ANSWER else None)
        self._blame, self._why = told.blame, told.kind
        self._settle(AttemptEvent.FAIL)
        if self._runner is not None:
            self._runner.refused(self, told, outcome, free=outcome.stale)

    def _answered(self, outcome: Outcome) -> None:
        self._answer.usage = usage_of(outcome.body, event=False)
        self._settle(AttemptEvent.END)
        if self._runner is not None:
            self._runner.answered(self, outcome)

    def _refuse(self, told: Verdict, event: Event | None = None) -> None:
        """Give up an upstream that is still open, and let the runner go on without it."""
        self._blame, self._why = told.blame, told.kind
        outcome = None
        if event is not None:
            body = payload_of(event.data).strip()
            outcome = Outcome(ending=Ending.ANSWER, status=told.status, content_type=b"application/json", body=body)
        if self._runner is not None:
            self._runner.refused(self, told, outcome, free=False)
        self.cancel()

    # After it

    def _deliver(self, events: tuple[Event, ...]) -> None:
        """Send events of which some carry marks, in one write."""
        now = monotonic()
        if self._quiet is not None:
            self._quiet.last = now
        answer, stream = self._answer, self._stream
        out = answer.take(events)
        if stream.state.ended:
            return
        if out:
            self._feed(b"".join(out), len(out), now)
        if answer.done and not stream.state.ended:
            if answer.error is not None:
                self._break_off(answer.error, answer.frame)
            else:
                stream.finish()

    def _end_flowing(self, outcome: Outcome) -> None:
        answer, stream = self._answer, self._stream
        rest = answer.end(clean=outcome.ending is Ending.END, error=outcome.error)
        if rest and not stream.state.ended:
            self._feed(rest, 1, monotonic())
            stream.finish()
        self._blame = answer.error is not None
        if answer.error is not None:
            self._why = answer.error.code.value
        self._settle(AttemptEvent.FAIL if self._blame else AttemptEvent.END)
        if answer.error is not None:
            # Settled before: who goes on may need this very permit.
            self._break_off(answer.error, None)

    def _break_off(self, error: HeadraceError, frame: bytes | None) -> None:
        """The answer is incomplete: somebody else goes on with it, or the client is told."""
        if self._broken:
            return
        self._broken = True
        if self._runner is not None and self._runner.broke(self, error, frame):
            # Whatever this engine still sends is nobody's.
            self._blame = True
            self._flowing = False
        else:
            self._stream.fail(error, frame)

    # Deadlines and books

    def _silent(self) -> None:
        """No data event for too long."""
        if self._flowing and self._stream.paused:
            if self._quiet is not None:
                self._quiet.restart()
            return
        name = self.backend.name
        if self._flowing:
            self._blame, self._why = True, Code.STREAM_STALLED.value
            silence = f"{self._timings.idle_s:g} s"
            error = HeadraceError(Code.STREAM_STALLED, f"The backend {name} sent nothing for {silence}.")
            self._answer.error = error
            self._break_off(error, None)
            self.cancel()
            return
        silence = f"{self._timings.first_event_s if self._call.stream else self._timings.response_s:g} s"
        error = HeadraceError(Code.BACKEND_TIMEOUT, f"The backend {name} sent no event within {silence}.")
        self._refuse(Verdict(True, True, error, error.wire.status))

    def _settle(self, event: AttemptEvent) -> None:
        self.state = next_attempt(self.state, event)
        if self.state is AttemptState.DONE:
            self._ticket.success()
        elif self._blame:
            self._ticket.failure()
        else:
            self._ticket.abandoned()
        # Last, for it lets the next one in, who must find the breaker as this attempt leaves it.
        self._permit.release()
        took_s = monotonic() - self.sent_at if self.sent_at else None
        label, model = self._call.label, self.candidate.model
        self.backend.count(label, model, self.state.value.lower(), self.error_type, took_s, self.usage)
