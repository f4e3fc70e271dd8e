"""Lips and voice as a receiver of RTP can tell them apart: its streams' clocks, and what sender reports make of them.

Each RTP stream counts on a clock of its own that begins anywhere; a sender report says which time of day a stamp was
(RFC 3550 §6.4.1), and a receiver plays picture and sound of one time of day together. Two things can go wrong:

- the clocks slip: the sound that comes with a picture is not the one it used to come with;
- the reports do: lips are shown before or after the voice that came with them. That is the `skew`.

Stamps are kept as they come, and thought about once a minute: nothing of this is in the way of a packet.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import deque
from itertools import pairwise
from typing import Final

import msgspec

__all__ = ["Lips", "Minute", "Track"]

_VIDEO_HZ: Final = 90_000
_AUDIO_HZ: Final = 48_000
_PICTURE: Final = _VIDEO_HZ // 25
_PACKET: Final = _AUDIO_HZ // 50
#: Browsers fit a line through so many reports; on one clock its height is their mean.
_REPORTS: Final = 20
#: With fewer it says little.
_ENOUGH: Final = 3
#: The two packets of sound of a picture come with it, within this.
_TOGETHER_S: Final = 0.015
#: A picture that comes so much after its time, measured at the promptest one of its minute.
_LATE_S: Final = 0.04


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What a minute was; and the skew: how far the picture lags behind its sound."""

    pictures: int
    pictures_missing: int
    pictures_late: int
    #: The most that one came after its time.
    lateness_most_ms: float
    packets_of_sound: int
    packets_of_sound_missing: int
    #: Of the clocks since the first minute; None = too little was heard.
    slip_ms: float | None
    #: By the mean of the newest reports, as browsers have it; None = there were not enough.
    skew_median_ms: float | None
    skew_most_ms: float | None
    #: By the newest report alone.
    skew_newest_most_ms: float | None


class Track:
    """One RTP stream.

    Args:
        rate_hz: of its clock.
        step: from one unit to the next, on it.
    """

    def __init__(self, rate_hz: int, step: int) -> None:
        self.rate_hz = rate_hz
        self._step = step
        self._last: int | None = None
        #: The newest stamp of the minutes before.
        self._before: int | None = None
        #: When each stamp of this minute came first.
        self.came: dict[int, float] = {}
        #: When a report came, and how far the time of day is from the stream's own; both in s.
        self.reports: deque[tuple[float, float]] = deque()

    def stamped(self, stamp: int, at_s: float) -> None:
        """Take a packet: its 32 bit stamp, and when it came."""
        self.came.setdefault(self._whole(stamp), at_s)

    def reported(self, ntp: int, stamp: int, at_s: float) -> None:
        """Take a sender report: its 64 bit time of day (32.32, RFC 3550 §4) and its stamp."""
        self.reports.append((at_s, ntp / 2**32 - self._whole(stamp) / self.rate_hz))

    def missing(self) -> int:
        """Return how many units this minute lacks."""
        stamps = sorted(self.came)
        if self._before is not None:
            stamps = [self._before, *(stamp for stamp in stamps if stamp > self._before)]
        return sum(max(0, round((later - earlier) / self._step) - 1) for earlier, later in pairwise(stamps))

    def lateness_s(self) -> list[float]:
        """Return by how much each unit came later than the promptest one."""
        found = [at_s - stamp / self.rate_hz for stamp, at_s in self.came.items()]
        return [one - min(found) for one in found]

    def turn(self) -> None:
        """Begin another minute."""
        if self.came:
            self._before = max(self.came)
        self.came.clear()
        while len(self.reports) > _REPORTS:
            self.reports.popleft()

    def _whole(self, stamp: int) -> int:
        """Return a stamp that does not wrap around."""
        if self._last is None:
            self._last = stamp
            return stamp
        whole = self._last + (stamp - self._last + 2**31) % 2**32 - 2**31
        self._last = max(self._last, whole)
        return whole


class Lips:
    """The picture and the sound of one face."""

    def __init__(self) -> None:
        self.picture = Track(_VIDEO_HZ, _PICTURE)
        self.sound = Track(_AUDIO_HZ, _PACKET)
        self._first_apart_s: float | None = None

    def minute(self) -> Minute:
        """Say what was since the last time, and begin anew."""
        late = self.picture.lateness_s()
        apart_s = self._apart_s()
        if self._first_apart_s is None:
            self._first_apart_s = apart_s
        slip = None if apart_s is None or self._first_apart_s is None else apart_s - self._first_apart_s
        skew = [] if apart_s is None else self._skew_s(apart_s, _REPORTS)
        newest = [] if apart_s is None else self._skew_s(apart_s, 1)
        found = Minute(
            pictures=len(late),
            pictures_missing=self.picture.missing(),
            pictures_late=sum(one > _LATE_S for one in late),
            lateness_most_ms=_ms(max(late, default=0.0)),
            packets_of_sound=len(self.sound.came),
            packets_of_sound_missing=self.sound.missing(),
            slip_ms=None if slip is None else _ms(slip),
            skew_median_ms=_ms(statistics.median(skew)) if skew else None,
            skew_most_ms=_ms(max(skew, key=abs)) if skew else None,
            skew_newest_most_ms=_ms(max(newest, key=abs)) if newest else None,
        )
        self.picture.turn()
        self.sound.turn()
        return found

    def _apart_s(self) -> float | None:
        """Return how far the sound's clock is from the picture's: the median of what came together."""
        sounds = sorted((at_s, stamp / _AUDIO_HZ) for stamp, at_s in self.sound.came.items())
        times = [at_s for at_s, _ in sounds]
        found = []
        for stamp, at_s in self.picture.came.items():
            near = sounds[bisect_left(times, at_s - _TOGETHER_S) : bisect_left(times, at_s + _TOGETHER_S)]
            if near:
                found.append(min(own_s for _, own_s in near) - stamp / _VIDEO_HZ)
        return statistics.median(found) if found else None

    def _skew_s(self, apart_s: float, reports: int) -> list[float]:
        """Return the skew as it was after each report, by the mean of so many."""
        heights: dict[Track, deque[float]] = {track: deque(maxlen=reports) for track in (self.picture, self.sound)}
        enough = min(reports, _ENOUGH)
        news = sorted((at_s, height, track is self.sound) for track in heights for at_s, height in track.reports)
        found = []
        for _, height, sounds in news:
            heights[self.sound if sounds else self.picture].append(height)
            if all(len(own) >= enough for own in heights.values()):
                shown, heard = (statistics.fmean(heights[track]) for track in (self.picture, self.sound))
                found.append(shown - heard - apart_s)
        return found


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
