"""What a request's attempts did and when, for its one event: a few numbers for each attempt, none for a token."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from edge.relay.leg import Leg
    from edge.relay.traced import Headers, RequestTrace

__all__ = ["Step", "Trail"]

#: `max_attempts` is at most ten; stale connections come on top of it.
_STEPS: Final = 16


class Step(msgspec.Struct, kw_only=True):
    """One attempt. Times are monotonic seconds; 0 = it did not come to that."""

    backend: str
    model: str
    #: Why it was made: first, stale, refused, hedge, continuation.
    why: str
    opened_at: float
    sent_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    #: done, failed or cancelled; empty = it has not ended.
    outcome: str = ""
    #: Why it failed.
    code: str = ""

    def fields(self, began: float) -> dict[str, Any]:
        """Return it as an event tells it, in milliseconds since `began`; what is not known is left out."""
        found: dict[str, Any] = {"backend": self.backend, "model": self.model, "why": self.why}
        found["opened_ms"] = _ms(self.opened_at - began)
        for name, at in (("sent_ms", self.sent_at), ("first_ms", self.first_at), ("ended_ms", self.ended_at)):
            if at:
                found[name] = _ms(at - began)
        if self.outcome:
            found["outcome"] = self.outcome
        if self.code:
            found["code"] = self.code
        return found


class Trail:
    """The attempts of one request.

    Args:
        trace: its spans, which are told the same; None = it is not sampled.
    """

    __slots__ = ("_of", "_trace", "queued_at", "steps", "why")

    def __init__(self, trace: RequestTrace | None = None) -> None:
        self._trace = trace
        self.steps: list[Step] = []
        #: When it began to stand in line, in monotonic seconds.
        self.queued_at = 0.0
        #: Why the next attempt is made.
        self.why = "first"
        self._of: dict[Leg, Step] = {}

    def waited(self, since_s: float, seconds: float) -> None:
        """It stood in line."""
        self.queued_at = since_s
        if self._trace is not None:
            self._trace.waited(since_s, seconds)

    def opened(self, leg: Leg, number: int, headers: Headers, *, hedge: bool) -> Headers:
        """Note that an attempt begins, which holds a permit from now on; return the headers of its request."""
        step = Step(
            backend=leg.backend.name,
            model=leg.candidate.model,
            why="hedge" if hedge else self.why,
            opened_at=monotonic(),
        )
        self._of[leg] = step
        if len(self.steps) < _STEPS:
            self.steps.append(step)
        return headers if self._trace is None else self._trace.attempt(leg, number, headers)

    def failed(self, leg: Leg, code: str) -> None:
        """It failed, and this is why."""
        if (step := self._of.get(leg)) is not None:
            step.code = code

    def settled(self, leg: Leg) -> None:
        """It is over, and its permit is given back."""
        if self._trace is not None:
            self._trace.settled(leg)
        step = self._of.pop(leg, None)
        if step is not None:
            step.sent_at, step.first_at = leg.sent_at, leg.first_at
            step.ended_at = monotonic()
            step.outcome = leg.state.value.lower()

    @property
    def slot_s(self) -> float:
        """Seconds for which backends' permits were held, all attempts together."""
        return sum(step.ended_at - step.opened_at for step in self.steps if step.ended_at)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
