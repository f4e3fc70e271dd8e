"""Sound for tests: samples that are like speech, and an encoder of the reference model without a server."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from compositor.audio.meters import Meters
from compositor.audio.utterance import Workshop
from streamkit.ops.metrics import Metrics
from tests.support.timing import MS

__all__ = ["Encoder", "become", "pcm", "rms_of", "speech", "workshop"]

Floats = NDArray[np.float32]


def speech(seconds: float, rate: int = 16_000, *, silence_s: float = 0.0) -> Floats:
    """Return syllables: a harmonic tone with noise in it, swelling four times a second, silence on either side."""
    rng = np.random.default_rng(5)
    at = np.arange(int(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * 130 * n * at + n) / n for n in range(1, 25))
    swell = 0.5 * (1 - np.cos(2 * np.pi * 4 * at)) * (0.4 + 0.6 * np.sin(2 * np.pi * 0.35 * at) ** 2)
    sound = 0.09 * swell * (voice + 0.2 * rng.standard_normal(len(at)))
    quiet = np.zeros(int(silence_s * rate))
    return np.concatenate([quiet, sound, quiet]).astype(np.float32)


def pcm(samples: Floats, channels: int = 1) -> bytes:
    """Return samples -1..1 as signed 16 bit little endian, the same on each channel."""
    whole = np.clip(np.round(samples * 32_767), -32_768, 32_767).astype("<i2")
    return np.repeat(whole, channels).tobytes()


def rms_of(samples: Floats, ticks: int, rate: int = 16_000, *, ms: int = 40) -> NDArray[np.float64]:
    """Return the root mean square of each 40 ms, or of each `ms`."""
    size = rate * ms // 1000
    padded = np.pad(samples.astype(np.float64), (0, max(0, ticks * size - len(samples))))[: ticks * size]
    return np.asarray(np.sqrt(np.square(padded.reshape(ticks, size)).mean(axis=1)))


async def become(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; TimeoutError when it does not."""
    async with asyncio.timeout(10_000 * MS):
        while not condition():  # noqa: ASYNC110  counters tell nobody that they changed
            await asyncio.sleep(0.002)


class Encoder:
    """A stand-in for the model that needs no server: a window's features are all the mean of its third mel frame.

    Args:
        gate: waited for before each answer.
    """

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.batches: list[int] = []
        self._gate = gate

    async def encode(self, mels: Floats) -> Floats:
        """Return features."""
        self.batches.append(len(mels))
        if self._gate is not None:
            await self._gate.wait()
        return np.repeat(mels[:, 0, :, 3].mean(axis=1, keepdims=True) + 4.0, 512, axis=1).astype(np.float32)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2)


def workshop(encoder: Encoder, metrics: Metrics) -> Workshop:
    """Return what utterances share."""
    return Workshop(encoder, _pool(), Meters(metrics))
