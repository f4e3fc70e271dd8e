"""Voice activity: whether someone speaks, from loudness alone, 10 ms at a time.

A block is speech when its level rises above an opening threshold, and stays it until the level was below a closing
one for the whole hangover. Both thresholds follow the background's noise:

    noise    falls to any lower level at once, rises by 2 dB a second, -70 to -40 dBFS
    opening  12 dB above the noise, and never below -45 dBFS
    closing  6 dB below the opening one
    hangover 200 ms

It tells speech from silence and steady noise; music, and a door, are speech to it.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "HANGOVER_BLOCKS", "VoiceActivity", "decibels"]

#: Samples at 16 kHz that are judged together.
BLOCK: Final = 160
HANGOVER_BLOCKS: Final = 20
_QUIETEST_DB: Final = -70.0
_NOISIEST_DB: Final = -40.0
_RISE_DB: Final = 2.0 / 100
_ABOVE_NOISE_DB: Final = 12.0
_LEAST_OPENING_DB: Final = -45.0
_HYSTERESIS_DB: Final = 6.0
_NOTHING_DB: Final = -120.0


def decibels(samples: NDArray[np.float32]) -> float:
    """Return the root mean square of samples in dB of full scale, -120 for nothing."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(_NOTHING_DB, 10.0 * math.log10(power)) if power > 0.0 else _NOTHING_DB


class VoiceActivity:
    """One stream of blocks."""

    def __init__(self) -> None:
        self._noise_db = _QUIETEST_DB
        self._left = 0

    def judge(self, block: NDArray[np.float32]) -> bool:
        """Return whether someone speaks in `BLOCK` samples that follow those before them."""
        level = decibels(block)
        opening = max(_LEAST_OPENING_DB, self._noise_db + _ABOVE_NOISE_DB)
        risen = min(_NOISIEST_DB, self._noise_db + _RISE_DB)
        self._noise_db = min(max(level, _QUIETEST_DB), risen)
        if level >= opening or (self._left and level >= opening - _HYSTERESIS_DB):
            self._left = HANGOVER_BLOCKS
            return True
        if self._left:
            self._left -= 1
        return self._left > 0
