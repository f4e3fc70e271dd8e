"""The time of day that sender reports give what was sent: one clock for all streams of a peer (RFC 3550 §6.4.1).

Receivers play together what has one time of day. aiortc takes the moment at which it sent the last packet, and a
unit's second packet of sound is sent with its first, 20 ms early: by its reports lips would be 20 ms behind their
voice, and as much more as the two streams' last units happened to be late. So what is said is media time, plus one
distance for all.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Reports"]

#: The distance follows what is seen so slowly that a late unit moves it by a hundredth of its lateness.
_FOLLOW: Final = 0.01
#: A clock that was set is followed at once.
_SET_S: Final = 1.0
_NTP: Final = 2**32


class Reports:
    """The time of day of one peer's media."""

    __slots__ = ("_distance_s",)

    def __init__(self) -> None:
        self._distance_s: float | None = None

    def time_of(self, media_s: float, sent: int) -> int:
        """Return what to say of a packet.

        Args:
            media_s: its time, on the clock that the streams share.
            sent: when it was sent, as NTP has it: seconds since 1900 in 32.32 bits.
        """
        seen_s = sent / _NTP - media_s
        if self._distance_s is None or abs(seen_s - self._distance_s) > _SET_S:
            self._distance_s = seen_s
        self._distance_s += _FOLLOW * (seen_s - self._distance_s)
        return round((media_s + self._distance_s) * _NTP)
