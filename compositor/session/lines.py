"""What is to be said in a session: utterances in order, their epochs, and the marks of their beginnings and ends."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from compositor.contracts import TICK_MS, Sound, Speech
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Line", "Lines", "Outcome"]


class Outcome(enum.StrEnum):
    """How an utterance ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(eq=False, slots=True)
class Line:
    """One utterance.

    Args:
        epoch: it is dropped when a newer one begins.
        number: the caller's.
        opener: begins to speak; may fail.
        sound: set where samples come from the caller.
    """

    epoch: int
    number: int
    opener: Callable[[], Speech]
    sound: Sound | None = None
    speech: Speech | None = None
    #: Ticks that were taken from the voice, and those that went out.
    taken: int = 0
    played: int = 0
    #: The voice has no more; and why, if it broke off.
    over: bool = False
    failure: str = ""
    #: Nothing more of it will be shown.
    closed: bool = False
    started: bool = False
    #: Samples can no longer be pushed.
    shut: bool = False
    #: Rate and channels of a sound.
    form: tuple[int, int] = (0, 0)
    #: How much of it was pushed, and when the first of it was.
    pushed_s: float = 0.0
    begun_s: float = 0.0

    def live(self, now_s: float) -> bool:
        """Say whether it is heard as it is made: a microphone, not a file that was posted at once."""
        return self.sound is not None and self.pushed_s <= now_s - self.begun_s + _BURST_S


#: How far a microphone's samples may be ahead of the clock: they come in pieces of a second at most.
_BURST_S: Final = 1.0
#: Marks that may wait for a unit, as a multiple of the utterances that may.
_MARKS: Final = 4


@dataclass(slots=True)
class Lines:
    """A session's utterances; an older epoch's never come after an interrupt.

    Args:
        limit: that may wait or be spoken.
        on_end: told how each ended.
    """

    limit: int
    on_end: Callable[[Outcome], None] = lambda _: None
    #: What belongs to an older epoch is dropped: that of the newest interrupt.
    cut: int = 0
    #: The newest that was spoken in.
    spoken: int = 0
    #: Marks for the next unit.
    marks: list[pb.Mark] = field(default_factory=list)
    _open: deque[Line] = field(default_factory=deque)
    _last: int = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def epoch(self) -> int:
        """What a unit made now belongs to."""
        return max(self.cut, self.spoken)

    def __iter__(self) -> Iterator[Line]:
        return iter(tuple(self._open))

    @property
    def front(self) -> Line | None:
        """The utterance that is spoken or comes next."""
        return self._open[0] if self._open else None

    def unopened(self, ahead: int) -> Line | None:
        """Return the first that nobody began to speak, if it is among the first `ahead` that are not over."""
        rest = [line for line in self._open if not line.over]
        return next((line for line in rest[:ahead] if line.speech is None), None)

    def add(self, line: Line) -> bool:
        """Put an utterance at the end; False = it belongs to an epoch that is over, and is marked so.

        Raises:
            HeadraceError: its number does not rise, or too many wait.
        """
        if line.number <= self._last:
            raise HeadraceError(
                Code.INVALID_REQUEST,
                f"speech: numbers rise within a session: expected more than {self._last}, got {line.number}",
                param="speech",
            )
        if len(self._open) >= self.limit or len(self.marks) >= _MARKS * self.limit:
            raise HeadraceError(
                Code.SATURATED, f"speech: {self.limit} utterances wait (max_speeches)", retry_after_ms=1_000
            )
        self._last = line.number
        if line.epoch < self.cut:
            line.closed = line.shut = True
            self._mark(line, pb.Mark.FINISHED, interrupted=True)
            self.on_end(Outcome.INTERRUPTED)
            return False
        self._open.append(line)
        return True

    def find(self, number: int) -> Line | None:
        """Return an utterance that is not over."""
        return next((line for line in self._open if line.number == number), None)

    def known(self, number: int) -> bool:
        """Say whether there was ever one of that number, or one after it."""
        return number <= self._last

    def interrupt(self, epoch: int) -> list[Line]:
        """Begin an epoch; return the utterances that are dropped."""
        if epoch <= self.cut:
            return []
        self.cut = epoch
        dropped = [line for line in self._open if line.epoch < epoch]
        self._open = deque(line for line in self._open if line.epoch >= epoch)
        for line in dropped:
            line.closed = line.shut = True
            self._mark(line, pb.Mark.FINISHED, interrupted=True)
            self.on_end(Outcome.INTERRUPTED)
        return dropped

    def played(self, line: Line) -> None:
        """Note that a tick of it goes out in the unit that is being made."""
        line.played += 1
        self.spoken = max(self.spoken, line.epoch)
        if not line.started:
            line.started = True
            self._mark(line, pb.Mark.STARTED)

    def settle(self) -> None:
        """Close what has been spoken to its end."""
        while (line := self.front) is not None and line.over and line.played >= line.taken:
            self._open.popleft()
            line.closed = line.shut = True
            if line.failure:
                self._mark(line, pb.Mark.FAILED, message=line.failure)
                self.on_end(Outcome.FAILED)
            else:
                if not line.started:
                    self._mark(line, pb.Mark.STARTED)
                self._mark(line, pb.Mark.FINISHED)
                self.on_end(Outcome.FINISHED)

    def take_marks(self) -> list[pb.Mark]:
        """Return the marks that wait, for the unit that is being made."""
        marks, self.marks = self.marks, []
        return marks

    def _mark(
        self, line: Line, kind: pb.Mark.Kind.ValueType, *, interrupted: bool = False, message: str = ""
    ) -> None:
        self.marks.append(
            pb.Mark(
                kind=kind,
                speech=line.number,
                position_ms=line.played * TICK_MS,
                interrupted=interrupted,
                message=message,
                epoch=line.epoch,
            )
        )
