"""Judging an engine's event stream: what of it the client gets, and whether it was complete (law 5)."""

from __future__ import annotations

from collections.abc import Iterable

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.events import Event, Mark
from streamkit.wire.openai import DONE, Usage, empty_delta, error_of, usage_of

__all__ = ["EngineAnswer", "opens"]


def opens(event: Event) -> bool:
    """Say whether an event is a *first event*: one that carries something.

    A bare role chunk, usage or `[DONE]` opens nothing (design §3). Error frames are judged before this is asked.
    """
    if event.marks & (Mark.DONE | Mark.USAGE):
        return False
    return bool(event.marks) or not empty_delta(event.data)


class EngineAnswer:
    """One engine's stream, from its first event to its end.

    Args:
        backend: its name, for messages.
        choices: how many finish_reasons a whole answer has.
        strip_usage: the usage chunk was forced by us and is not the client's.
        sends_done: a whole answer of this engine ends in `[DONE]`.
    """

    __slots__ = ("_backend", "_choices", "_sends_done", "_strip_usage", "done", "error", "finishes", "frame", "usage")

    def __init__(self, backend: str, *, choices: int, strip_usage: bool, sends_done: bool) -> None:
        self._backend = backend
        self._choices = choices
        self._strip_usage = strip_usage
        self._sends_done = sends_done
        #: `[DONE]`, or the error frame that stands for it, was seen: nothing after it counts.
        self.done = False
        self.finishes = 0
        #: Why the answer is no success, once that is known.
        self.error: HeadraceError | None = None
        #: The engine's own error frame, to be sent as it is.
        self.frame: bytes | None = None
        self.usage: Usage | None = None

    @property
    def text_complete(self) -> bool:
        """Every choice has its finish_reason: only usage and `[DONE]` are still to come."""
        return self.finishes >= self._choices

    def take(self, events: Iterable[Event]) -> list[bytes]:
        """Take events of which some carry marks; return those that are the client's.

        `[DONE]` is among them only if the answer is whole; the error of one that is not comes from whoever ends the
        stream.
        """
        out: list[bytes] = []
        for event in events:
            if self.done:
                break
            marks = event.marks
            if marks & Mark.DONE:
                self.done = True
                if not self.finishes and self.error is None:
                    self.error = self._truncated("it said that it was done without a finish_reason")
                elif self.error is None:
                    out.append(event.data)
            elif marks & Mark.USAGE:
                self.usage = usage_of(event.data, event=True)
                if not self._strip_usage:
                    out.append(event.data)
            elif marks & Mark.ERROR and not marks & Mark.FINISH:
                # vLLM follows its error frame with [DONE], and so does whoever sends this one.
                self.done = True
                self.frame = event.data
                self.error = self._failed(event.data)
            else:
                if marks & Mark.FINISH:
                    self.finishes += 1
                    if b'"usage"' in event.data:
                        # `transformers serve` puts it here; a usage chunk, if one comes, counts more.
                        self.usage = usage_of(event.data, event=True) or self.usage
                if marks & Mark.ERROR:
                    self.error = self._failed(event.data)
                out.append(event.data)
        return out

    def end(self, *, clean: bool, error: HeadraceError | None = None) -> bytes:
        """The body has ended; return what the client still lacks of a whole answer.

        Args:
            clean: HTTP says that the body is whole.
            error: what broke it, if something did.
        """
        if self.done or self.error is not None:
            return b""
        if clean and self.text_complete and not self._sends_done:
            self.done = True
            return DONE
        if clean:
            self.error = self._truncated("its stream ended without the closing event")
        else:
            self.error = error or self._truncated("its stream broke off")
        return b""

    def _truncated(self, what: str) -> HeadraceError:
        text = f"The answer is incomplete: the backend {self._backend} failed ({what})."
        return HeadraceError(Code.STREAM_BROKEN, text)

    def _failed(self, event: bytes) -> HeadraceError:
        found = error_of(event, event=True)
        message = found.message if found and found.message else "an error without a message"
        return HeadraceError(Code.STREAM_BROKEN, f"The backend {self._backend} failed: {message}")
