"""Log-mel spectrograms as SyncTalk_2D's `ave` encoder was trained on: 80 a second, bit by bit as the sound comes.

Pre-emphasis 0.97; a Hann window of 800 samples at 16 kHz every 200, the first centred on the first sample, zeros
beyond both ends; magnitudes; 80 triangles from 55 to 7,600 Hz on Slaney's scale with Slaney's norm; 20 log10, not
below -100 dB, less 20 dB; -100..0 dB spread over -4..4 and cut off there. Silence is -4.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["HOP", "MELS", "SILENCE", "WINDOW", "LogMel", "mel_filters"]

HOP: Final = 200
WINDOW: Final = 800
MELS: Final = 80
#: What a frame of silence is made of.
SILENCE: Final = -4.0
_RATE: Final = 16_000
_LOW_HZ: Final = 55.0
_HIGH_HZ: Final = 7_600.0
_EMPHASIS: Final = 0.97
_LEAST: Final = 1e-5
#: Frames in one product: with more of them OpenBLAS wakes threads on all cores, which cost more than they do.
_GROUP: Final = 8
_REFERENCE_DB: Final = 20.0
_RANGE_DB: Final = 100.0
_MOST: Final = 4.0

Floats = NDArray[np.float64]


class LogMel:
    """One stream of samples at 16 kHz."""

    def __init__(self) -> None:
        # Centring the first window on the first sample puts half a window of nothing before it.
        self._waiting: Floats = np.zeros(WINDOW // 2)
        self._before = 0.0

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the frames that are complete with `samples`, [frames, `MELS`]."""
        if not len(samples):
            return np.empty((0, MELS), np.float32)
        wide = samples.astype(np.float64)
        emphasised = wide - _EMPHASIS * np.concatenate([[self._before], wide[:-1]])
        self._before = float(wide[-1])
        return self._frames(emphasised)

    def finish(self) -> NDArray[np.float32]:
        """Return the last frames: in all one more than `HOP`s fit into the samples."""
        return self._frames(np.zeros(WINDOW // 2))

    def _frames(self, more: Floats) -> NDArray[np.float32]:
        waiting = np.concatenate([self._waiting, more])
        frames = max(0, (len(waiting) - WINDOW) // HOP + 1)
        self._waiting = waiting[frames * HOP :]
        if not frames:
            return np.empty((0, MELS), np.float32)
        windows = sliding_window_view(waiting, WINDOW)[::HOP][:frames]
        magnitudes = np.abs(np.fft.rfft(windows * _hann(), axis=1))
        filters = mel_filters().T
        levels = np.concatenate([magnitudes[at : at + _GROUP] @ filters for at in range(0, frames, _GROUP)])
        decibels = 20.0 * np.log10(np.maximum(_LEAST, levels)) - _REFERENCE_DB
        spread = 2 * _MOST * (decibels + _RANGE_DB) / _RANGE_DB - _MOST
        return np.asarray(np.clip(spread, -_MOST, _MOST), dtype=np.float32)


@cache
def mel_filters() -> Floats:
    """Return the triangles as [`MELS`, bins of the window's spectrum]; each has an area of 1 in Hz."""
    step = math.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1_000 else 15 + math.log(hertz / 1_000) / step

    points = np.linspace(to_mel(_LOW_HZ), to_mel(_HIGH_HZ), MELS + 2)
    hertz = np.where(points < 15, points * 200 / 3, 1_000 * np.exp(step * (points - 15)))
    bins = np.linspace(0, _RATE / 2, WINDOW // 2 + 1)
    low, middle, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    triangles = np.maximum(0.0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    return np.asarray(triangles * 2.0 / (high - low), dtype=np.float64)


@cache
def _hann() -> Floats:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW), dtype=np.float64)
