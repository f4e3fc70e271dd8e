"""Which log-mels make a feature, and which features make a tick: the `ave` path's windows, as the sound comes.

    mels       80 a second
    feature j  25 a second: 16 mels from 3.2 j on; the last ones end with the mels
    row k      feature k - 1, the first and the last feature once more at the ends
    tick i     rows i - 8 to i + 7, the first and the last row repeated beyond the ends

So tick i waits for feature i + 6, whose last mel is centred 187.5 ms after that feature's beginning and reaches 25 ms
further: 450 ms of sound from the tick's own beginning. Beyond the end that is known at once.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compositor.audio.mel import MELS, SILENCE
from compositor.contracts import FEATURE_SHAPE

__all__ = ["FEATURES", "FRAMES", "LOOK_AHEAD", "FeatureWindows", "MelWindows", "features_of"]

#: Log-mels in a window.
FRAMES: Final = 16
#: Numbers in a feature.
FEATURES: Final = 512
#: Features of the future that a tick waits for, after the one that begins with it.
LOOK_AHEAD: Final = 6
_ROWS: Final = 16
_BEFORE: Final = 8

Floats = NDArray[np.float32]


def features_of(mels: int) -> int:
    """Return how many features so many log-mels give, 16 at least."""
    return int((mels - FRAMES) / 80.0 * 25.0) + 2


def _first_mel(feature: int) -> int:
    return int(80.0 * (feature / 25.0))


class MelWindows:
    """Cuts a stream of log-mels into windows for the encoder."""

    def __init__(self) -> None:
        self._mels: Floats = np.empty((0, MELS), np.float32)
        #: Number of the first one that is kept.
        self._at = 0
        self._next = 0

    def feed(self, mels: Floats) -> Floats:
        """Return the windows that are complete with `mels`, [windows, 1, `MELS`, `FRAMES`]."""
        self._mels = np.concatenate([self._mels, mels])
        known = self._at + len(self._mels)
        found: list[Floats] = []
        while (first := _first_mel(self._next)) + FRAMES <= known:
            found.append(self._window(first))
            self._next += 1
        # The end's windows may begin FRAMES before it.
        spare = min(_first_mel(self._next), known - FRAMES) - self._at
        if spare > 0:
            self._mels = self._mels[spare:]
            self._at += spare
        return _stacked(found)

    def finish(self) -> Floats:
        """Return the last windows: those that the sound's end cuts short are moved to end with it."""
        known = self._at + len(self._mels)
        if known < FRAMES:
            # Shorter than one window: silence follows.
            silence = np.full((FRAMES - known, MELS), SILENCE, np.float32)
            self._mels = np.concatenate([self._mels, silence])
            known = FRAMES
        found: list[Floats] = []
        while self._next < features_of(known):
            found.append(self._window(min(_first_mel(self._next), known - FRAMES)))
            self._next += 1
        return _stacked(found)

    def _window(self, first: int) -> Floats:
        return self._mels[first - self._at : first - self._at + FRAMES].T[None]


class FeatureWindows:
    """Gathers features into the windows of ticks."""

    def __init__(self) -> None:
        #: Rows as told above, from `_at` on.
        self._rows: deque[Floats] = deque()
        self._at = 0
        self._next = 0

    def feed(self, features: Floats) -> list[Floats]:
        """Return the windows of the ticks that are complete with `features`, each of `FEATURE_SHAPE`."""
        for row in features:
            if not self._rows:
                self._rows.append(row)
            self._rows.append(row)
        found: list[Floats] = []
        while self._next + _ROWS - _BEFORE <= self._at + len(self._rows):
            found.append(self._window())
        return found

    def finish(self, ticks: int) -> list[Floats]:
        """Return the windows of the remaining ticks of `ticks` in all."""
        if self._rows:
            self._rows.append(self._rows[-1])
        found: list[Floats] = []
        while self._next < ticks:
            found.append(self._window())
        return found

    def _window(self) -> Floats:
        last = self._at + len(self._rows) - 1
        wanted = range(self._next - _BEFORE, self._next + _ROWS - _BEFORE)
        rows = [self._rows[min(max(at, self._at), last) - self._at] for at in wanted]
        self._next += 1
        while self._at < self._next - _BEFORE and len(self._rows) > 1:
            self._rows.popleft()
            self._at += 1
        return np.stack(rows).reshape(FEATURE_SHAPE)


def _stacked(windows: list[Floats]) -> Floats:
    return np.stack(windows) if windows else np.empty((0, 1, MELS, FRAMES), np.float32)
