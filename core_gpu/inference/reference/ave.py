"""An audio encoder of the published `ave` interface whose features are as large as the sound is loud.

It answers a window of 80 x 16 log-mels with 512 numbers whose root mean square is about `GAIN` times that of the
sound under the window's third to eighth frame: the video frame that `reference:mouth` draws from it. Silence gives
exact zeros. It knows nothing of vowels; a published checkpoint, exported to ONNX, takes its place.

The log-mels are SyncTalk_2D's: amplitudes of a 800-point Hann window at 16 kHz, pre-emphasis 0.97, 80 Slaney mels
from 55 to 7,600 Hz, 20 dB taken off, -100..0 dB spread over -4..4, so that -4 is silence.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from core_gpu.inference.reference.graph import FEATURES, MEL_SHAPE, Graph

__all__ = ["GAIN", "ave"]

#: Speech of this root mean square, in parts of full scale, opens the reference mouth fully: one fifth.
GAIN: Final = 5.0
#: Frames of the window that count: those of the video frame, 40..80 ms after the window's beginning, and its edges.
_FRAMES: Final = (0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5)
_RATE: Final = 16_000
_WINDOW: Final = 800
_LOW_HZ: Final = 55.0
_HIGH_HZ: Final = 7_600.0
_EMPHASIS: Final = 0.97
#: A log-mel of x is an amplitude of 10 ** (_SLOPE * (x + 4) - 4).
_SLOPE: Final = 0.625
_FLOOR: Final = 1e-4


def ave() -> onnx.ModelProto:
    """Return the model; its only random part is the features' signs."""
    graph = Graph(seed=512)
    # Above the floor, so that a window of -4 everywhere is nothing at all: exp(0) - 1 is exactly 0.
    above = graph.add("Relu", graph.add("Add", "mel", graph.numbers(4.0)))
    grown = graph.add("Exp", graph.add("Mul", above, graph.numbers(_SLOPE * math.log(10.0))))
    amplitude = graph.add("Mul", graph.add("Sub", grown, graph.numbers(1.0)), graph.numbers(_FLOOR))
    power = graph.add("Mul", graph.add("Mul", amplitude, amplitude), graph.weight(_weights()))
    axes = graph.weight(np.array([1, 2, 3], dtype=np.int64))
    loudness = graph.add("Sqrt", graph.add("ReduceSum", power, axes, keepdims=0))
    signs = np.where(np.random.default_rng(512).random(FEATURES) < 0.5, -GAIN, GAIN).astype(np.float32)
    column = graph.add("Unsqueeze", loudness, graph.weight(np.array([1], dtype=np.int64)))
    out = graph.add("Mul", column, graph.weight(signs.reshape(1, FEATURES)))
    return graph.model(out, name="ave", inputs={"mel": MEL_SHAPE}, output_shape=(FEATURES,))


def _weights() -> NDArray[np.float32]:
    """Return what each log-mel's square counts for, so that the sum is about the sound's mean square."""
    _, mels, frames = MEL_SHAPE
    edges = _edges(mels)
    half = (edges[2:] - edges[:-2]) / 2
    middle = edges[1:-1]
    emphasised = np.abs(1.0 - _EMPHASIS * np.exp(-2j * np.pi * middle / _RATE)) ** 2
    # A sine of amplitude a is 200 a in its bin (half of the window's sum) and, by Slaney's norm, that by half a mel's
    # width in its mel.
    sine = 1.0 / (2.0 * (_WINDOW / 4) ** 2)
    # Wider mels add amplitudes of several bins, not their squares.
    bins = np.maximum(1.0, half / (_RATE / _WINDOW))
    bands = half**2 / emphasised / bins * sine
    columns = np.zeros(frames)
    columns[: len(_FRAMES)] = np.array(_FRAMES) / sum(_FRAMES)
    return np.asarray(bands[:, None] * columns[None, :], dtype=np.float32).reshape(1, *MEL_SHAPE)


def _edges(mels: int) -> NDArray[np.float64]:
    """Return the triangles' corners in Hz, evenly spaced on Slaney's scale: linear to 1 kHz, logarithmic above."""
    step = math.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1_000 else 15 + math.log(hertz / 1_000) / step

    points = np.linspace(to_mel(_LOW_HZ), to_mel(_HIGH_HZ), mels + 2)
    return np.where(points < 15, points * 200 / 3, 1_000 * np.exp(step * (points - 15)))
