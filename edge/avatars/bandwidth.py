"""What a viewer's network takes, made of what its receiver reports: estimates (REMB), and losses.

An estimate is of what has come: it begins low, climbs by some percent a second, and is never much more than half as
much again as what comes (libwebrtc's AimdRateControl). A face that is still sends little, so a small one says nothing
of the network; followed, it would have the next sentence begin blurred. What says something is one below what is
being sent that falls, or climbs no more: its receiver sees packets queue. Then less is sent, until it climbs again.
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
#: An estimate that may climb does so within this.
_HOLD_S: Final = 1.5
#: What is left of what was sent where one climbs no more; what libwebrtc makes of an overused link.
_BACK_OFF: Final = 0.85
#: Losses above it count against the rate, by half (draft-ietf-rmcat-gcc-02 §6).
_LOSSES: Final = 0.1
#: After so long without trouble more is tried, by as much a time: 8 % a second.
_CALM_S: Final = 4.0
_STEP: Final = 1.101
_STEP_S: Final = 1.25
#: Packets that were lost are sent again in this part of the rate, and so many bytes at once: asked for them all, a
#: link that is overrun would carry nothing else.
_REPEATS: Final = 0.25
_BURST: Final = 32 * 1024


class Bandwidth:
    """Of one viewer.

    Args:
        wanted_bps: for a picture as it should be; never more than that is asked for.
        now: seconds on the caller's clock.
    """

    __slots__ = (
        "_began", "_bytes", "_changed", "_estimate_bps", "_fell", "_repeated", "_repeats", "_rose", "_sent",
        "_trouble", "_wanted_bps", "target_bps",
    )  # fmt: skip

    def __init__(self, wanted_bps: int, now: float) -> None:
        self._wanted_bps = wanted_bps
        #: What pictures may take.
        self.target_bps = wanted_bps
        self._began = self._rose = self._repeated = now
        #: Bytes that may be sent again now.
        self._repeats = float(_BURST)
        self._changed = self._trouble = float("-inf")
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
        if estimate_bps > self._estimate_bps or now - self._began < _SETTLED_S:
            self._rose = now
        elif estimate_bps < self._estimate_bps:
            self._fell = True
        self._estimate_bps = estimate_bps
        if now - self._began < _SETTLED_S or now - self._changed < _PAUSE_S:
            return False
        fell, self._fell = self._fell, False
        sent_bps = self._sent_bps(now)
        if estimate_bps < sent_bps:
            if fell:
                return self._less(estimate_bps, now)
            if now - self._rose > _HOLD_S:
                self._rose = now
                return self._less(max(estimate_bps, int(sent_bps * _BACK_OFF)), now)
        return self._more(now)

    def lost(self, share: float, now: float) -> bool:
        """Take the share of packets that did not come, 0 to 1; returns as `told`."""
        if share <= _LOSSES or now - self._began < _SETTLED_S or now - self._changed < _PAUSE_S:
            return False
        return self._less(int(self._sent_bps(now) * (1 - share / 2)), now)

    def may_repeat(self, size: int, now: float) -> bool:
        """Return whether a lost packet of so many bytes may be sent again."""
        rate = self.target_bps * _REPEATS / 8
        self._repeats = min(_BURST, self._repeats + (now - self._repeated) * rate)
        self._repeated = now
        if self._repeats < size:
            return False
        self._repeats -= size
        return True

    def _less(self, bps: int, now: float) -> bool:
        self._trouble = now
        return self._set(min(bps, self.target_bps), now)

    def _more(self, now: float) -> bool:
        if self._estimate_bps > self.target_bps:
            return self._set(self._estimate_bps, now)
        if now - self._trouble > _CALM_S and now - self._changed > _STEP_S:
            return self._set(int(self.target_bps * _STEP), now)
        return False

    def _set(self, bps: int, now: float) -> bool:
        target_bps = min(max(bps, FLOOR_BPS), self._wanted_bps)
        change = abs(target_bps - self.target_bps)
        if not change or (change <= _CHANGE * self.target_bps and target_bps != self._wanted_bps):
            return False
        self.target_bps = target_bps
        self._changed = now
        return True

    def _sent_bps(self, now: float) -> float:
        self._forget(now)
        return 8 * self._bytes / _WINDOW_S

    def _forget(self, now: float) -> None:
        while self._sent and now - self._sent[0][0] > _WINDOW_S:
            self._bytes -= self._sent.popleft()[1]
