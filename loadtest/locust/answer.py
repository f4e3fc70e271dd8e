"""What one streamed answer was: when its tokens came, and whether it is whole. The same rules as `k6/frames.js`.

A 200 says nothing. An answer is whole when a finish_reason was followed by `[DONE]` and no frame was an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import msgspec

from streamkit.wire.unreadable import UNREADABLE

__all__ = ["DONE", "Answer", "misplaced"]

DONE: Final = b"[DONE]"
_TEXTS: Final = ("content", "reasoning_content", "tool_calls")


def misplaced(name: str, last: int) -> str | None:
    """Return what is wrong with the id `name` of the event behind number `last`; None = it is the next one."""
    if not name.isdecimal():
        return "an event without a number"
    if int(name) == last + 1:
        return None
    return "an event is missing" if int(name) > last + 1 else "an event came twice"


@dataclass
class Answer:
    """One answer as it comes.

    Args:
        begun_s: when the request was sent, in seconds of the clock that `feed` is given.
    """

    begun_s: float
    #: When each token came.
    tokens_s: list[float] = field(default_factory=list)
    error: str | None = None
    finished: bool = False
    done: bool = False

    def feed(self, data: bytes, now_s: float) -> None:
        """Take the data of one event."""
        if self.done:
            self.error = "an event behind [DONE]"
        elif data == DONE:
            self.done = True
        else:
            self._take(data, now_s)

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token; None = there was none."""
        return (self.tokens_s[0] - self.begun_s) * 1000 if self.tokens_s else None

    @property
    def gaps_ms(self) -> list[float]:
        """Times between neighbouring tokens."""
        return [(after - before) * 1000 for before, after in pairwise(self.tokens_s)]

    @property
    def jitter_ms(self) -> float | None:
        """Mean difference between neighbouring gaps; None = fewer than three tokens."""
        gaps = self.gaps_ms
        if len(gaps) < 2:
            return None
        return sum(abs(after - before) for before, after in pairwise(gaps)) / (len(gaps) - 1)

    @property
    def fault(self) -> str | None:
        """Why the answer is not whole; None = it is."""
        if self.error is not None:
            return self.error
        if not self.done:
            return "no [DONE]"
        if not self.finished:
            return "no finish_reason"
        return None if self.tokens_s else "no token"

    def _take(self, data: bytes, now_s: float) -> None:
        try:
            frame: Any = msgspec.json.decode(data)
        except UNREADABLE:
            self.error = f"an event that is no JSON: {data[:80]!r}"
            return
        if not isinstance(frame, dict):
            self.error = "an event that is no object"
            return
        if told := frame.get("error"):
            code = told.get("code") or told.get("type") if isinstance(told, dict) else None
            self.error = str(code or "an error frame")
            return
        for choice in frame.get("choices") or ():
            self.finished = self.finished or bool(choice.get("finish_reason"))
            delta = choice.get("delta") or {}
            if choice.get("text") or any(delta.get(name) for name in _TEXTS):
                self.tokens_s.append(now_s)
