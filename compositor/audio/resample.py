"""Samples of any rate to mono at 16 kHz for features and 48 kHz for Opus, without a seam between pieces."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from streamkit.wire.errors import Code, HeadraceError

__all__ = [
    "FEATURE_RATE",
    "MAX_RATE",
    "MIN_RATE",
    "SOUND_RATE",
    "Resampled",
    "Resampler",
    "check_format",
    "samples_at",
]

FEATURE_RATE: Final = 16_000
SOUND_RATE: Final = 48_000
MIN_RATE: Final = 8_000
MAX_RATE: Final = 48_000
#: Of the input at a time: always the same pieces, however it came, so that the same numbers come out.
_BLOCKS_PER_S: Final = 50
_CHANNELS: Final = (1, 2)


def check_format(sample_rate: int, channels: int) -> None:
    """Return if samples of this kind can be taken.

    Raises:
        HeadraceError: they cannot; the message names the field and its limit.
    """
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise HeadraceError(
            Code.INVALID_REQUEST,
            f"sample_rate: expected {MIN_RATE} to {MAX_RATE} Hz, got {sample_rate}",
            param="sample_rate",
        )
    if channels not in _CHANNELS:
        raise HeadraceError(Code.INVALID_REQUEST, f"channels: expected 1 or 2, got {channels}", param="channels")


def samples_at(rate: int, samples: int, sample_rate: int) -> int:
    """Return how many samples at `rate` last as long as `samples` at `sample_rate`, rounded up."""
    return -(-samples * rate // sample_rate)


@dataclass(frozen=True, slots=True)
class Resampled:
    """A piece of sound at both rates; the two need not be equally long before the end.

    Args:
        features: float32 in -1..1 at `FEATURE_RATE`.
        sound: int16 at `SOUND_RATE`.
    """

    features: NDArray[np.float32]
    sound: NDArray[np.int16]


class Resampler:
    """One stream of samples: signed 16 bit little endian, interleaved.

    Args:
        sample_rate: of the input, in Hz.
        channels: 1 or 2; two are mixed to one.

    Raises:
        HeadraceError: a rate or a number of channels that cannot be taken.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        check_format(sample_rate, channels)
        self._rate = sample_rate
        self._channels = channels
        self._frame_bytes = 2 * channels
        self._block_bytes = sample_rate // _BLOCKS_PER_S * self._frame_bytes
        self._rest = b""
        self._taken = 0
        self._features = _Output("flt", FEATURE_RATE)
        self._sound = _Output("s16", SOUND_RATE)

    def feed(self, pcm: bytes) -> Resampled:
        """Return what has become ready with `pcm`, which holds whole samples of all channels."""
        data = self._rest + pcm
        whole = len(data) - len(data) % self._block_bytes
        self._rest = data[whole:]
        return self._resampled([data[at : at + self._block_bytes] for at in range(0, whole, self._block_bytes)])

    def finish(self) -> Resampled:
        """Return the rest; in all there are as many samples as the input's duration makes, rounded up."""
        last = self._resampled([self._rest] if self._rest else [])
        self._rest = b""
        return Resampled(
            np.concatenate([last.features, self._features.flush(self._taken, self._rate)]).astype(np.float32),
            np.concatenate([last.sound, self._sound.flush(self._taken, self._rate)]).astype(np.int16),
        )

    def _resampled(self, blocks: list[bytes]) -> Resampled:
        features: list[NDArray[np.generic]] = []
        sound: list[NDArray[np.generic]] = []
        for block in blocks:
            samples = np.frombuffer(block, dtype="<i2").reshape(-1, self._channels)
            if self._channels > 1:
                # The mean, here: the filter would mix them 3 dB louder for one of the two outputs.
                samples = samples.mean(axis=1, keepdims=True).astype(np.int16)
            mono = samples.reshape(1, -1)
            for output, found in ((self._features, features), (self._sound, sound)):
                # A frame belongs to the filter that it is given to.
                frame = av.AudioFrame.from_ndarray(mono, format="s16", layout="mono")
                frame.sample_rate = self._rate
                frame.time_base = Fraction(1, self._rate)
                frame.pts = self._taken
                found.extend(output.feed(frame))
            self._taken += len(block) // self._frame_bytes
        return Resampled(
            np.concatenate([np.empty(0, np.float32), *features]).astype(np.float32),
            np.concatenate([np.empty(0, np.int16), *sound]).astype(np.int16),
        )


class _Output:
    """One rate: how much came out, so that the end can be made exact."""

    def __init__(self, format_: str, rate: int) -> None:
        self._resampler = av.AudioResampler(format=format_, layout="mono", rate=rate)
        self._rate = rate
        self._given = 0

    def feed(self, frame: av.AudioFrame | None) -> list[NDArray[np.generic]]:
        found: list[NDArray[np.generic]] = [one.to_ndarray().reshape(-1) for one in self._resampler.resample(frame)]
        self._given += sum(map(len, found))
        return found

    def flush(self, taken: int, sample_rate: int) -> NDArray[np.generic]:
        """Return what the filter still holds, cut or filled up with zeros to the input's duration."""
        owed = max(0, samples_at(self._rate, taken, sample_rate) - self._given)
        # At the same rate nothing is held back, and without a first frame there is no filter to ask.
        found = self.feed(None) if taken and sample_rate != self._rate else []
        tail = np.concatenate([np.empty(0, np.int16), *found])[:owed]
        return np.pad(tail, (0, owed - len(tail)))
