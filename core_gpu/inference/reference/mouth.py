"""A small model of the same interface whose mouth opens with the loudness of its audio, and is still in silence.

It draws lips around a dark ellipse, as high as the audio is loud, onto the face that it is given; where it is wide
open teeth are seen. Its contract with whoever makes features: silence is zeros, and a feature's root mean square
rises with the sound's. The 16 frames of 512 features of a window are its 32 channels, two for each frame; the two in
the middle are the frame that is drawn, and its neighbours count half.
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
_HALF_WIDTH: Final = 37.0
_HALF_HEIGHT: Final = 34.0
#: What is seen inside an open mouth, 0..1 for each of the output's channels.
_INSIDE: Final = (0.22, 0.07, 0.08)
#: How soft an edge is: one over the part of the half height.
_SHARPNESS: Final = 10.0
#: The lips: their colour, how far their middle lies lower, half their width, and their thickness in parts of the
#: mouth's half height, which they have as soon as it is open by a third of that.
_LIPS: Final = (0.72, 0.38, 0.36)
_LIPS_LOWER: Final = 1.5
_LIPS_HALF_WIDTH: Final = 44.0
_LIPS_THICK: Final = 0.24
_LIPS_GROW: Final = 3.0
#: The teeth: their colour, and where they are from and to, above the middle, in pixels; they do not move.
_TEETH: Final = (0.90, 0.88, 0.84)
_TEETH_FROM: Final = 19.0
_TEETH_TO: Final = 30.0
_TEETH_HALF_WIDTH: Final = 26.0


def mouth() -> onnx.ModelProto:
    """Return the model; it has no random part."""
    graph = Graph(seed=0)
    opening = _opening(graph)
    around = graph.add("Mul", opening, graph.numbers(_LIPS_GROW))
    around = graph.add("Clip", around, graph.numbers(0.0), graph.numbers(_LIPS_THICK))
    lips = _within(graph, graph.add("Add", opening, around), _MIDDLE[0] + _LIPS_LOWER, _LIPS_HALF_WIDTH)
    hollow = _within(graph, opening, _MIDDLE[0], _HALF_WIDTH)
    face = graph.add(
        "Slice", "input", graph.weight(_int64(0)), graph.weight(_int64(3)), graph.weight(_int64(1))
    )  # fmt: skip
    painted = _over(graph, face, _colour(graph, _LIPS), lips)
    return graph.model(_over(graph, painted, _inside(graph), hollow), name="mouth")


def _within(graph: Graph, opening: str, middle: float, half_width: float) -> str:
    """Return how much each pixel lies in an ellipse that is open so far, 0..1, as [N, 1, height, width]."""
    _, height, width = OUTPUT_SHAPE
    # How far each pixel lies above or below the middle line, in parts of the ellipse's half height there.
    below = np.abs(np.arange(height, dtype=np.float32) - middle) / _HALF_HEIGHT
    # Nought times the stretch is nought: beyond the corners the middle line itself would be inside.
    below = np.maximum(below, np.float32(0.01))
    along = (np.arange(width, dtype=np.float32) - _MIDDLE[1]) / half_width
    # Beyond the corners an ellipse has no height: one over nearly nothing keeps those pixels out.
    stretch = 1.0 / np.sqrt(np.maximum(1.0 - along**2, 1e-6))
    far = graph.add(
        "Mul",
        graph.weight(below.astype(np.float32).reshape(1, 1, height, 1)),
        graph.weight(stretch.astype(np.float32).reshape(1, 1, 1, width)),
    )
    # Zero opening gives zero everywhere, on the middle line too: silence changes no bit.
    inside = graph.add("Mul", graph.add("Sub", opening, far), graph.numbers(_SHARPNESS))
    return graph.add("Clip", inside, graph.numbers(0.0), graph.numbers(1.0))


def _inside(graph: Graph) -> str:
    """Return what is seen inside, which is always the same: whoever runs the model reckons it once."""
    _, height, width = OUTPUT_SHAPE
    above = _MIDDLE[0] - np.arange(height, dtype=np.float32)
    rows = np.clip(np.minimum(above - _TEETH_FROM, _TEETH_TO - above) / 2.0, 0.0, 1.0)
    beside = np.abs(np.arange(width, dtype=np.float32) - _MIDDLE[1])
    columns = np.clip((_TEETH_HALF_WIDTH - beside) / 4.0, 0.0, 1.0)
    teeth = graph.add(
        "Mul",
        graph.weight(rows.astype(np.float32).reshape(1, 1, height, 1)),
        graph.weight(columns.astype(np.float32).reshape(1, 1, 1, width)),
    )
    return _over(graph, _colour(graph, _INSIDE), _colour(graph, _TEETH), teeth)


def _over(graph: Graph, below: str, above: str, part: str) -> str:
    """Return one picture painted onto another, as thickly as a part of 1."""
    return graph.add("Add", below, graph.add("Mul", graph.add("Sub", above, below), part))


def _colour(graph: Graph, colour: tuple[float, float, float]) -> str:
    return graph.weight(np.array(colour, dtype=np.float32).reshape(1, 3, 1, 1))


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
