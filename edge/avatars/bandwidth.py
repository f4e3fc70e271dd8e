"""What a viewer's network takes, made of its receiver's estimates (REMB).

An estimate is of what has come: it begins low, climbs by some percent a second, and is never much more than half as
much again as what comes (libwebrtc's AimdRateControl). A face that is still sends little, so a small one says nothing
of the network; followed, it would have the next sentence begin blurred. What says something is one that falls below
what is being sent: its receiver has seen packets queue. From then on estimates are followed, up to what is wanted.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["FLOOR_BPS", "Bandwidth"]

#: Below it there is no picture worth sending.
FLOOR_BPS: Final = 300_000
#: The first estimates of a connection say little (5 kbit/s on loopback, in Chromium).
_SETTLED_S: Final = 3.0
#: A change is worth an encoder's while from here on, and so often at most.
_CHANGE: Final = 0.1
_PAUSE_S: Final = 0.5
#: What was sent is looked at over so long, as receivers do.
_WINDOW_S: Final = 1.0


class Bandwidth:
    """Of one viewer.

    Args:
        wanted_bps: for a picture as it should be; never more than that is asked for.
        now: seconds on the caller's clock.
    """

    __slots__ = ("_began", "_bytes", "_changed", "_estimate_bps", "_fell", "_sent", "_wanted_bps", "target_bps")

    def __init__(self, wanted_bps: int, now: float) -> None:
        self._wanted_bps = wanted_bps
        #: What pictures may take.
        self.target_bps = wanted_bps
        self._began = now
        self._changed = float("-inf")
        self._estimate_bps = 0
        #: An estimate fell, and has not been thought about.
        self._fell = False
        self._sent: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def sent(self, size: int, now: float) -> None:
        """So many bytes of media went out."""
        self._sent.append((now, size))
        self._bytes += size
        self._forget(now)

    def told(self, estimate_bps: int, now: float) -> bool:
        """Take an estimate; returns whether `target_bps` is another one now."""
        if now - self._began < _SETTLED_S:
            return False
        self._fell |= estimate_bps < self._estimate_bps
        self._estimate_bps = estimate_bps
        if now - self._changed < _PAUSE_S:
            return False
        fell, self._fell = self._fell, False
        self._forget(now)
        # Where less is sent than it allows, the network is not what is in the way.
        overused = fell and estimate_bps < 8 * self._bytes / _WINDOW_S
        climbs = self.target_bps < min(estimate_bps, self._wanted_bps)
        target_bps = min(max(estimate_bps, FLOOR_BPS), self._wanted_bps)
        small = abs(target_bps - self.target_bps) <= _CHANGE * self.target_bps and target_bps != self._wanted_bps
        if small or not (overused or climbs):
            return False
        self._changed = now
        before, self.target_bps = self.target_bps, target_bps
        return target_bps != before

    def _forget(self, now: float) -> None:
        while self._sent and now - self._sent[0][0] > _WINDOW_S:
            self._bytes -= self._sent.popleft()[1]
