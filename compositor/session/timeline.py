"""A session's ticks in time: the only pacemaker. No task and no socket in here.

Tick n begins n / 25 s after the session did, whatever happened before: a late one is made up for, none moves the
others. Only `move` does, all that follow alike. Sound and picture of a tick have their time from the same number, so
they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from compositor.contracts import PACKET_SAMPLES, TICK_MS

__all__ = ["TICK_S", "Tick", "Timeline"]

TICK_S: Final = TICK_MS / 1000
_VIDEO_CLOCK: Final = 90_000
_AUDIO_CLOCK: Final = 48_000


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick that becomes a unit.

    Args:
        number: since the session's start, 0 …
        seq: of the unit, 1 …
        late: so late that its picture is left out: the next one is due already.
    """

    number: int
    seq: int
    late: bool

    @property
    def video_pts(self) -> int:
        """The start, in 1/90,000 s."""
        return self.number * _VIDEO_CLOCK * TICK_MS // 1000

    def audio_pts(self, packet: int) -> int:
        """Return a packet's time, in 1/48,000 s."""
        return self.number * _AUDIO_CLOCK * TICK_MS // 1000 + packet * PACKET_SAMPLES


class Timeline:
    """Counts ticks, units and acknowledgements.

    Args:
        start_s: when tick 0 begins.
        window: units that may be unacknowledged.
    """

    def __init__(self, start_s: float, window: int) -> None:
        self._start_s = start_s
        self._window = window
        self._next = 0
        #: The newest unit, and the newest that was acknowledged.
        self.sent = 0
        self.acked = 0
        #: When anything was acknowledged last, or nothing was open.
        self.heard_s = start_s
        #: Ticks for which no unit was made.
        self.passed = 0

    @property
    def due_s(self) -> float:
        """When the next tick begins."""
        return self._start_s + self._next * TICK_S

    @property
    def unacked(self) -> int:
        """Units on the way."""
        return self.sent - self.acked

    def advance(self, now_s: float) -> Tick | None:
        """Take the next tick, which is due; None = there is no room, and all ticks that are due are gone.

        Args:
            now_s: not before `due_s`.
        """
        behind = max(0, int((now_s - self.due_s) / TICK_S + 1e-6))
        if self.unacked >= self._window:
            self._next += behind + 1
            self.passed += behind + 1
            return None
        tick = Tick(self._next, self.sent + 1, late=behind > 0)
        self._next += 1
        self.sent += 1
        return tick

    def move(self, earlier_s: float) -> None:
        """Let all ticks that follow begin so much earlier than they would; below 0 = later."""
        self._start_s -= earlier_s

    def ack(self, seq: int, now_s: float) -> bool:
        """Take an acknowledgement; False = no such unit was sent. An older one than before changes nothing."""
        if seq > self.sent:
            return False
        self.acked = max(self.acked, seq)
        self.heard_s = now_s
        return True

    def silent_s(self, now_s: float) -> float:
        """Return for how long units have been waiting without any acknowledgement."""
        if not self.unacked:
            self.heard_s = now_s
        return now_s - self.heard_s
