"""What the face does in a tick: idle, wait for a mouth, or speak. No task and no socket in here.

The template plays forth and back without end; a position counts its pictures. Each tick of speech was made for one
position, so it is shown there and nowhere else: the face goes on idling until that position, and holds still there
if the mouth is not there yet.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from compositor.contracts import TICK_MS, OpusPacket
from compositor.session.feeder import Ready

__all__ = ["SILENCE", "Kind", "Posture", "Step"]

#: 20 ms of silence in Opus: one CELT frame, full band, mono (RFC 6716 §3.1), as every decoder knows it.
SILENCE = OpusPacket(b"\xf8\xff\xfe")
_QUIET = (SILENCE, SILENCE)
_MAX_LEAD = 5
#: How much the newest latency counts.
_WEIGHT = 0.3


class Kind(enum.Enum):
    """What a tick shows."""

    IDLE = "idle"
    HOLD = "hold"
    SPEAK = "speak"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One tick's content.

    Args:
        kind: what is shown.
        position: of the template.
        ready: what is spoken; None = nothing.
    """

    kind: Kind
    position: int
    ready: Ready | None = None

    @property
    def mouth(self) -> bytes | None:
        """The mouth to be drawn; None = the face as it idles."""
        return None if self.ready is None else self.ready.mouth

    @property
    def packets(self) -> tuple[OpusPacket, ...]:
        """The sound."""
        return _QUIET if self.ready is None else self.ready.tick.packets


class Posture:
    """Where the face is.

    Args:
        wait_s: how long a mouth may be late before its sound goes out without it.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self.position = -1
        self._latency_s = 0.0

    def step(self, queue: deque[Ready], now_s: float) -> Step:
        """Return what is shown now, and take it from the queue.

        Args:
            queue: ticks of speech, by position.
            now_s: the time.
        """
        here = self.position + 1
        head = queue[0] if queue else None
        if head is None or head.position > here:
            self.position = here
            return Step(Kind.IDLE, here)
        if head.pending and now_s - head.asked_s < self._wait_s:
            return Step(Kind.HOLD, max(0, self.position))
        queue.popleft()
        if head.inference_s:
            self._latency_s += (head.inference_s - self._latency_s) * _WEIGHT
        self.position = max(here, head.position)
        return Step(Kind.SPEAK, self.position, head)

    def next_position(self) -> int:
        """Return where a tick could be shown that is asked for now."""
        lead = min(_MAX_LEAD, int(self._latency_s * 1000 / TICK_MS))
        return self.position + 1 + lead
