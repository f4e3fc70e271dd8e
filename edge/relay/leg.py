"""One attempt at one backend: long, because first event, deadlines and the truth about the end are one judgement.

A leg is the `Sink` of its source. It holds the permit and the breaker's ticket until the upstream body has ended,
whatever the client does meanwhile (law 3), and it is where an engine's stream is judged complete or not (law 5).
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

import msgspec

from edge.protocol.refusals import Verdict, verdict, verdict_of_break, verdict_of_frame
from edge.protocol.request import Call
from edge.protocol.states import AttemptEvent, AttemptState, next_attempt
from edge.relay.backends import Backend
from edge.streams.contracts import Attempt, Ending, Outcome, UpstreamRequest
from edge.streams.quiet import Quiet
from edge.streams.stream import Stream
from streamkit.flow.breaker import Ticket
from streamkit.flow.permits import Permit
from streamkit.ops import catalog
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.events import Batch, Event, Mark
from streamkit.wire.openai import DONE, Usage, empty_delta, error_of, payload_of, usage_of

__all__ = ["Leg", "LegTimings", "Runner"]


class LegTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of one attempt, in seconds."""

    first_event_s: float
    idle_s: float
    response_s: float


class Runner(Protocol):
    """Who runs the legs of one request."""

    def flowing(self, leg: Leg) -> None:
        """The first event is here; from now on the leg feeds the stream itself."""

    def answered(self, leg: Leg, outcome: Outcome) -> None:
        """A whole, successful, non-streaming answer."""

    def refused(self, leg: Leg, verdict: Verdict, outcome: Outcome | None, *, free: bool) -> None:
        """The attempt failed before any first event. `free`: a stale connection, whose retry costs no budget."""

    def settled(self, leg: Leg) -> None:
        """The upstream is over and everything is given back; the last call."""


class Leg:
    """One attempt.

    Args:
        runner: told of the turning points.
        stream: fed once events flow.
        backend: where to.
        call: what.
        number: 1 for the first attempt.
        permit: held until the upstream ends.
        ticket: settled when the upstream ends.
    """

    __slots__ = (
        "_attempt",
        "_blame",
        "_call",
        "_done",
        "_error",
        "_finishes",
        "_flowing",
        "_given_up",
        "_held",
        "_held_bytes",
        "_loop",
        "_permit",
        "_quiet",
        "_runner",
        "_sent_at",
        "_stream",
        "_strip_usage",
        "_ticket",
        "_timings",
        "backend",
        "number",
        "state",
        "usage",
    )

    def __init__(
        self,
        runner: Runner,
        stream: Stream,
        backend: Backend,
        call: Call,
        *,
        number: int,
        permit: Permit,
        ticket: Ticket,
        timings: LegTimings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._runner: Runner | None = runner
        self._stream = stream
        self._call = call
        self._timings = timings
        self._loop = loop
        self._permit = permit
        self._ticket = ticket
        self.backend = backend
        self.number = number
        self.state = AttemptState.CONNECTING
        self.usage: Usage | None = None
        self._attempt: Attempt | None = None
        self._quiet: Quiet | None = None
        self._flowing = False
        self._given_up = False
        self._held: list[Event] = []
        self._held_bytes = 0
        self._finishes = 0
        self._done = False
        self._error: HeadraceError | None = None
        self._blame: bool | None = None
        self._sent_at = 0.0
        self._strip_usage = (
            call.stream
            and backend.candidate.capabilities.usage_chunk_only
            and not call.wants_usage
            and not call.continuous_usage
        )

    @property
    def finish_seen(self) -> bool:
        """Every choice has its finish_reason: only usage and `[DONE]` are still to come."""
        return self._finishes >= self._call.n

    def open(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Send the request.

        Args:
            headers: request headers beyond the source's own.
        """
        candidate = self.backend.candidate
        request = UpstreamRequest(
            path=self._call.operation.path,
            body=self._call.upstream_body(model=candidate.model, usage=self._strip_usage),
            stream=self._call.stream,
            one_choice=self._call.n == 1,
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
        self._sent_at = monotonic()
        silence_s = self._timings.first_event_s if self._call.stream else self._timings.response_s
        self._quiet = Quiet(self._loop, silence_s, self._silent)

    def feed(self, batch: Batch) -> None:
        """Take whole data events: the hot path."""
        if self._flowing and not batch.marks:
            now = monotonic()
            if self._quiet is not None:
                self._quiet.last = now
            self._stream.feed(batch.data, batch.count, now)
        elif self._flowing:
            self._deliver(batch.events)
        elif self._runner is not None and self._blame is None:
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
            if event.marks & (Mark.DONE | Mark.USAGE) or (not event.marks and empty_delta(event.data)):
                self._hold(event)
                continue
            self._first(events[index:])
            return

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
        now = monotonic()
        labels = (self._call.operation.value, self.backend.candidate.model, self.backend.name)
        self.backend.metrics.histogram(catalog.ATTEMPT_FIRST_CHUNK, *labels).observe(now - self._sent_at)
        if self._quiet is not None:
            self._quiet.restart(self._timings.idle_s)
        self._flowing = True
        held, self._held = self._held, []
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
            told = verdict_of_break(name, outcome.error, stale=outcome.stale)
        elif outcome.ending is Ending.ANSWER and outcome.status >= 300:
            told = verdict(name, outcome.status, outcome.body)
        else:
            text = f"The backend {name} ended its stream before the first event."
            if outcome.ending is Ending.ANSWER:
                kind = outcome.content_type.decode("latin-1") or "nothing"
                text = f"The backend {name} answered a stream request with {kind} instead of text/event-stream."
            told = Verdict(True, True, HeadraceError(Code.BACKEND_ERROR, text), 502)
        self._blame = told.blame
        self._settle(AttemptEvent.FAIL)
        if self._runner is not None:
            self._runner.refused(self, told, outcome, free=outcome.stale)

    def _answered(self, outcome: Outcome) -> None:
        self.usage = usage_of(outcome.body, event=False)
        self._settle(AttemptEvent.END)
        if self._runner is not None:
            self._runner.answered(self, outcome)

    def _refuse(self, told: Verdict, event: Event | None = None) -> None:
        """Give up an upstream that is still open, and let the runner go on without it."""
        self._blame = told.blame
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
        out: list[bytes] = []
        frame: bytes | None = None
        for event in events:
            if self._done:
                break
            if event.marks & Mark.DONE:
                self._done = True
                if not self._finishes and self._error is None:
                    self._error = self._truncated("it said that it was done without a finish_reason")
                elif self._error is None:
                    out.append(event.data)
            elif event.marks & Mark.USAGE:
                self.usage = usage_of(event.data, event=True)
                if not self._strip_usage:
                    out.append(event.data)
            elif event.marks & Mark.ERROR and not event.marks & Mark.FINISH:
                # The engine's own frame goes out as it is; vLLM follows it with [DONE], and so do we.
                self._done = True
                frame = event.data
                self._error = self._engine_error(event.data)
            else:
                if event.marks & Mark.FINISH:
                    self._finishes += 1
                if event.marks & Mark.ERROR:
                    self._error = self._engine_error(event.data)
                out.append(event.data)
        if out and not self._stream.state.ended:
            self._stream.feed(b"".join(out), len(out), now)
        if self._done and not self._stream.state.ended:
            if self._error is not None:
                self._stream.fail(self._error, frame)
            else:
                self._stream.finish()

    def _end_flowing(self, outcome: Outcome) -> None:
        complete = self._done and self._error is None
        if not self._done and self._error is None:
            may_lack_done = not self.backend.candidate.capabilities.sends_done
            if outcome.ending is Ending.END and self.finish_seen and may_lack_done:
                complete = True
                if not self._stream.state.ended:
                    self._stream.feed(DONE, 1, monotonic())
                    self._stream.finish()
            elif outcome.ending is Ending.END:
                self._error = self._truncated("its stream ended without the closing event")
            else:
                self._error = outcome.error or self._truncated("its stream broke off")
        if not complete and self._error is not None:
            self._stream.fail(self._error)
        self._blame = not complete
        self._settle(AttemptEvent.END if complete else AttemptEvent.FAIL)

    def _truncated(self, what: str) -> HeadraceError:
        text = f"The answer is incomplete: the backend {self.backend.name} failed ({what})."
        return HeadraceError(Code.STREAM_BROKEN, text)

    def _engine_error(self, event: bytes) -> HeadraceError:
        found = error_of(event, event=True)
        message = found.message if found and found.message else "an error without a message"
        return HeadraceError(Code.STREAM_BROKEN, f"The backend {self.backend.name} failed: {message}")

    # Deadlines and books

    def _silent(self) -> None:
        """No data event for too long."""
        if self._flowing and self._stream.paused:
            if self._quiet is not None:
                self._quiet.restart()
            return
        name = self.backend.name
        if self._flowing:
            self._blame = True
            silence = f"{self._timings.idle_s:g} s"
            error = HeadraceError(Code.STREAM_STALLED, f"The backend {name} sent nothing for {silence}.")
            self._error = error
            self._stream.fail(error)
            self.cancel()
            return
        silence = f"{self._timings.first_event_s if self._call.stream else self._timings.response_s:g} s"
        error = HeadraceError(Code.BACKEND_TIMEOUT, f"The backend {name} sent no event within {silence}.")
        self._refuse(Verdict(True, True, error, error.wire.status))

    def _settle(self, event: AttemptEvent) -> None:
        self.state = next_attempt(self.state, event)
        self._permit.release()
        if self.state is AttemptState.DONE:
            self._ticket.success()
        elif self._blame:
            self._ticket.failure()
        else:
            self._ticket.abandoned()
        metrics, name, model = self.backend.metrics, self.backend.name, self.backend.candidate.model
        outcome = self.state.value.lower()
        metrics.counter(catalog.ATTEMPTS, name, outcome).value += 1
        if self._sent_at:
            labels = (self._call.operation.value, model, name, outcome)
            metrics.histogram(catalog.ATTEMPT_DURATION, *labels).observe(monotonic() - self._sent_at)
        if self.usage is not None:
            metrics.counter(catalog.TOKENS, model, name, "input").value += self.usage.prompt_tokens
            metrics.counter(catalog.TOKENS, model, name, "output").value += self.usage.completion_tokens or 0
