"""One choice of one answer: its tokens, where they stop, and what goes wrong after how many."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from simulator.batch import Sequence, Step
from simulator.directives import Directives
from simulator.request import Generate
from simulator.source import Source
from simulator.stops import Stops
from simulator.template import Prompt
from simulator.tokens import Token

__all__ = ["Choice"]

#: Directives that fire when the token after so many is due, the stronger first.
_TRIPS: Final = ("die_after", "eof_after", "error_after", "end_after", "stall_after")

#: Text to say, its tokens, why the choice ends (None while it goes on), and the stop string that ended it.
Say = Callable[["Choice", str, list[Token], str | None, str | None], None]


class Choice:
    """One sequence's text.

    Args:
        index: its place in `choices`.
        prompt: what it answers.
        source: its tokens.
        request: limits and stop strings.
        directives: what goes wrong.
        max_tokens: at most so many.
        say: gets every piece of text.
        trip: gets the name of a directive that fires; True means that the choice goes on.
        direct: gets a plain token on the hot path; None when each piece must go through `say`.

    Attributes:
        sent: tokens with text so far, in this answer.
        tokens: once it has ended, how many tokens it cost, the model's own end included.
        chars: characters said so far, on the slow path.
        reason: `finish_reason`, once it has ended.
        stopped: the stop string that ended it.
    """

    __slots__ = (
        "_direct", "_held", "_limit", "_max_tokens", "_min_tokens", "_say", "_source", "_stops", "_trip", "_trip_at",
        "_trips", "chars", "index", "prompt", "reason", "sent", "sequence", "stopped",
        "tokens", "tool_id",
    )  # fmt: skip

    def __init__(
        self, index: int, prompt: Prompt, source: Source, request: Generate, directives: Directives, *,
        max_tokens: int, say: Say, trip: Callable[[Choice, str], bool],
        direct: Callable[[Choice, Token], None] | None,
    ) -> None:  # fmt: skip
        self.index = index
        self.prompt = prompt
        self.reason: str | None = None
        self.stopped: str | None = None
        self.tool_id = ""
        self.sent = 0
        self.tokens = 0
        self.chars = 0
        self._source = source
        self._say = say
        self._trip = trip
        self._direct = direct
        self._stops = Stops(request.stop, keep=request.include_stop) if request.stop else None
        self._held: list[Token] = []
        self._max_tokens = max_tokens
        endless = request.ignore_eos or directives.tokens is not None
        self._min_tokens = 0 if endless else request.min_tokens
        wanted = math.inf if directives.tokens is None else directives.tokens - source.had
        self._limit = min(max_tokens, wanted)
        self._trips = _trips(directives)
        self._trip_at = self._trips[-1][0] if self._trips else -1
        self.sequence: Sequence = Sequence(
            self._on_token,
            prompt_tokens=prompt.tokens,
            prompt_key=prompt.text + prompt.so_far,
            ttft_s=None if directives.ttft_ms is None else directives.ttft_ms * 0.001,
            itl_s=None if directives.itl_ms is None else directives.itl_ms * 0.001,
        )

    def end(self, reason: str) -> None:
        """End at once with what has been said (`abort`)."""
        if self.reason is None:
            self._finish("", [], reason, None)

    def _on_token(self, now: float) -> Step:
        """The next token is due (monotonic, seconds)."""
        while self.sent == self._trip_at:
            _, name = self._trips.pop()
            self._trip_at = self._trips[-1][0] if self._trips else -1
            if not self._trip(self, name):
                return Step.STALL
        token = self._source.next() if self.sent < self._limit else None
        if token is None:
            # The model's own end is a token without text (a13_stream_json_schema).
            self._finish("", [], "stop", None, extra=1)
            return Step.DONE
        self.sent += 1
        if self._direct is not None and self.sent < self._limit:
            self._direct(self, token)
            return Step.GO_ON
        return self._slowly(token)

    def _slowly(self, token: Token) -> Step:
        if self._min_tokens and self.sent >= self._min_tokens and self._source.walk is not None:
            self._min_tokens = 0
            self._source.walk.endless = False
        self._held.append(token)
        text, stopped = (token.text, None) if self._stops is None else self._stops.feed(token.text)
        reason: str | None = None
        if stopped is not None:
            reason = "stop"
        elif self.sent >= self._limit:
            reason = "length" if self.sent >= self._max_tokens else "stop"
            text += "" if self._stops is None else self._stops.rest()
        held, self._held = self._held, []
        if reason is not None:
            self._finish(text, held, reason, stopped)
            return Step.DONE
        if not text:
            self._held = held
        self._say(self, text, held if text else [], None, None)
        self.chars += len(text)
        return Step.GO_ON

    def _finish(self, text: str, tokens: list[Token], reason: str, stopped: str | None, *, extra: int = 0) -> None:
        if self._stops is not None and not tokens and stopped is None:
            text += self._stops.rest()
        self.reason = reason
        self.stopped = stopped
        self.tokens = self.sent + extra
        self._say(self, text, self._held + tokens, reason, stopped)


def _trips(directives: Directives) -> list[tuple[int, str]]:
    """Return (tokens, directive), the last one due first."""
    trips: list[tuple[int, str]] = []
    for name in _TRIPS:
        after = getattr(directives, name)
        if after is not None:
            trips.append((after, name))
    if directives.role_only:
        trips.append((0, "role_only"))
    if directives.garbage is not None:
        trips.append((directives.garbage_after, "garbage"))
    # Of two at the same count, the one listed first is popped first, from the end.
    trips.reverse()
    trips.sort(key=lambda trip: -trip[0])
    return trips
