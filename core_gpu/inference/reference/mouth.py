"""A small model of the same interface whose mouth opens with the loudness of its audio, and is still in silence.

It draws a dark ellipse, as high as the audio is loud, onto the face that it is given. Its contract with whoever makes
features: silence is zeros, and a feature's root mean square rises with the sound's. The 16 frames of 512 features of
a window are its 32 channels, two for each frame; the two in the middle are the frame that is drawn, and its
neighbours count half.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx

from core_gpu.inference.reference.graph import AUDIO_SHAPE, OUTPUT_SHAPE, Graph

__all__ = ["FULL_RMS", "mouth"]

#: Features of this root mean square open the mouth fully.
FULL_RMS: Final = 1.0
#: Channels of the drawn frame in a window of 16 frames, and of its neighbours on either side.
_CENTRE: Final = (16, 17)
_BESIDE: Final = (14, 15, 18, 19)
#: The mouth in a crop of 320 x 320: its middle, half its width, half its height when fully open; in pixels.
_MIDDLE: Final = (218.0, 160.0)
_HALF_WIDTH: Final = 52.0
_HALF_HEIGHT: Final = 34.0
#: What is seen inside an open mouth, 0..1 for each of the output's channels.
_INSIDE: Final = (0.22, 0.07, 0.08)
#: How soft its edge is: one over the part of its height.
_SHARPNESS: Final = 6.0


def mouth() -> onnx.ModelProto:
    """Return the model; it has no random part."""
    graph = Graph(seed=0)
    opening = _opening(graph)
    # How far each pixel lies above or below the middle line, in parts of the ellipse's half height there.
    _, height, width = OUTPUT_SHAPE
    below = np.abs(np.arange(height, dtype=np.float32) - _MIDDLE[0]) / _HALF_HEIGHT
    # Nought times the stretch is nought: beyond the corners the middle line itself would be inside.
    below = np.maximum(below, np.float32(0.01))
    along = (np.arange(width, dtype=np.float32) - _MIDDLE[1]) / _HALF_WIDTH
    # Beyond the corners an ellipse has no height: one over nearly nothing keeps those pixels out.
    stretch = 1.0 / np.sqrt(np.maximum(1.0 - along**2, 1e-6))
    far = graph.add(
        "Mul",
        graph.weight(below.reshape(1, 1, height, 1)),
        graph.weight(stretch.astype(np.float32).reshape(1, 1, 1, width)),
    )
    # Zero opening gives zero everywhere, on the middle line too: silence changes no bit.
    inside = graph.add("Mul", graph.add("Sub", opening, far), graph.numbers(_SHARPNESS))
    mask = graph.add("Clip", inside, graph.numbers(0.0), graph.numbers(1.0))
    face = graph.add(
        "Slice", "input", graph.weight(_int64(0)), graph.weight(_int64(3)), graph.weight(_int64(1))
    )  # fmt: skip
    colour = graph.weight(np.array(_INSIDE, dtype=np.float32).reshape(1, 3, 1, 1))
    toward = graph.add("Mul", graph.add("Sub", colour, face), mask)
    return graph.model(graph.add("Add", face, toward), name="mouth")


def _opening(graph: Graph) -> str:
    """Return how far the mouth is open, 0..1, as [N, 1, 1, 1]."""
    channels, *size = AUDIO_SHAPE
    weights = np.zeros((1, channels, 1, 1), dtype=np.float32)
    weights[:, _CENTRE] = 1.0
    weights[:, _BESIDE] = 0.5
    # So that features of the same loudness everywhere give their mean square.
    weights *= 1.0 / (weights.sum() * size[0] * size[1])
    power = graph.add("Mul", graph.add("Mul", "audio", "audio"), graph.weight(weights))
    mean = graph.add("ReduceSum", power, graph.weight(_int64(1, 2, 3)), keepdims=1)
    loudness = graph.add("Div", graph.add("Sqrt", mean), graph.numbers(FULL_RMS))
    return graph.add("Clip", loudness, graph.numbers(0.0), graph.numbers(1.0))


def _int64(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)
