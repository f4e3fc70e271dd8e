"""What a session has been asked to speak: numbered, announced, and given to the compositor a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Speech"]

#: At the compositor and not finished: enough that its voice is never idle.
_AHEAD: Final = 6


def _nobody(*_: object) -> None:
    return


class Speech:
    """The sentences of one session.

    Args:
        send: gives the compositor a verb.
        announce: tells viewers of a sentence that goes there: its number, text, and who asked for it.
        bound_bytes: text that may wait.
    """

    __slots__ = ("_ahead", "_announce", "_bound_bytes", "_held_bytes", "_number", "_send", "_waiting", "epoch")

    def __init__(
        self,
        send: Callable[[pb.SessionRequest], None],
        announce: Callable[[int, str, str], None],
        bound_bytes: int,
    ) -> None:
        self._send = send
        self._announce = announce
        self._bound_bytes = bound_bytes
        self._waiting: deque[tuple[str, str]] = deque()
        self._held_bytes = 0
        self._ahead: set[int] = set()
        self._number = 0
        #: What is said now belongs to it; all before it is dropped.
        self.epoch = 1

    @property
    def pending(self) -> int:
        """Sentences that are not finished."""
        return len(self._waiting) + len(self._ahead)

    def number(self) -> int:
        """Return the next speech's number, for sound."""
        self._number += 1
        return self._number

    def say(self, sentences: Iterable[str], ref: str) -> None:
        """Speak sentences after the others.

        Args:
            sentences: whole ones.
            ref: comes back with each.

        Raises:
            HeadraceError: SATURATED; too much waits already.
        """
        for text in sentences:
            size = len(text.encode())
            if self._held_bytes + size > self._bound_bytes:
                said = f"{self._held_bytes} bytes wait to be spoken; the limit is speech_bytes = {self._bound_bytes}."
                raise HeadraceError(Code.SATURATED, said, param="text")
            self._waiting.append((text, ref))
            self._held_bytes += size
            self._go_on()

    def marked(self, mark: pb.Mark) -> None:
        """The compositor began, finished or failed something."""
        if mark.kind != pb.Mark.STARTED:
            self._ahead.discard(mark.speech)
            self._go_on()

    def failed(self, speech: int) -> None:
        """The compositor refused one."""
        self._ahead.discard(speech)
        self._go_on()

    def interrupt(self) -> int:
        """Drop everything; return the new epoch."""
        self.epoch += 1
        self._waiting.clear()
        self._ahead.clear()
        self._held_bytes = 0
        self._send(pb.SessionRequest(interrupt=pb.Interrupt(epoch=self.epoch)))
        return self.epoch

    def release(self) -> None:
        """The session is over: know nobody any more."""
        self._waiting.clear()
        self._held_bytes = 0
        self._send, self._announce = _nobody, _nobody

    def _go_on(self) -> None:
        while self._waiting and len(self._ahead) < _AHEAD:
            text, ref = self._waiting.popleft()
            self._held_bytes -= len(text.encode())
            number = self.number()
            self._ahead.add(number)
            self._announce(number, text, ref)
            self._send(pb.SessionRequest(say=pb.Say(epoch=self.epoch, speech=number, text=text)))
