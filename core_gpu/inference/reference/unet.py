"""A model of the published unet_328's interface, size and cost, with random weights: for benchmarks, not for faces.

Five steps down and five up of inverted residuals, the audio's features joined at the bottleneck, as the published
model is described (facts: 12.19 M parameters, 4.89 GMAC a frame). Only what it costs is meant to be the same.
"""

from __future__ import annotations

from typing import Final

import onnx

from core_gpu.inference.reference.graph import AUDIO_SHAPE, VISUAL_SHAPE, Graph

__all__ = ["unet"]

_WIDTHS: Final = (32, 64, 128, 256, 512)
#: Chosen so that parameters and cost are the published ones within 2 %; a test counts them.
_UP_WIDTHS: Final = (128, 64, 32, 24, 16)
_EXPAND: Final = 2


def unet(seed: int = 328) -> onnx.ModelProto:
    """Return the model; the same seed makes the same bytes."""
    graph = Graph(seed)
    width = _WIDTHS[0]
    here = _residual(graph, "input", VISUAL_SHAPE[0], width)
    skips: list[tuple[str, int]] = []
    for wider in (*_WIDTHS[1:], _WIDTHS[-1]):
        skips.append((here, width))
        here = _pair(graph, here, width, wider, stride=2)
        width = wider
    here = graph.add("Concat", here, _audio(graph), axis=1)
    here = _residual(graph, here, 2 * width, width)
    here = _residual(graph, here, width, width // 2)
    width //= 2
    scales = graph.numbers(1, 1, 2, 2)
    for (skip, beside), out in zip(reversed(skips), _UP_WIDTHS, strict=True):
        here = graph.add("Resize", here, "", scales, mode="linear")
        here = graph.add("Concat", here, skip, axis=1)
        here = graph.add("Relu", graph.conv(here, width + beside, out, 1))
        here = _residual(graph, here, out, out)
        width = out
    return graph.model(graph.add("Sigmoid", graph.conv(here, width, 3, 1)), name="unet_328_cost")


def _audio(graph: Graph) -> str:
    """Return the audio's 512 channels of 10 x 10."""
    here, width = "audio", AUDIO_SHAPE[0]
    for wider in (64, 128):
        here = _residual(graph, here, width, wider)
        width = wider
    here = graph.add("Relu", graph.conv(here, 128, 256, 3))
    here = _residual(graph, here, 256, 256)
    here = graph.add("Relu", graph.conv(here, 256, 512, 3, stride=2, pad=3))
    here = _residual(graph, here, 512, 512)
    return _residual(graph, here, 512, 512)


def _pair(graph: Graph, here: str, inputs: int, outputs: int, *, stride: int = 1) -> str:
    return _residual(graph, _residual(graph, here, inputs, outputs, stride=stride), outputs, outputs)


def _residual(graph: Graph, here: str, inputs: int, outputs: int, *, stride: int = 1) -> str:
    """Widen, filter each channel, narrow; what came in is added where the sizes allow it."""
    inner = inputs * _EXPAND
    out = graph.add("Relu", graph.conv(here, inputs, inner, 1))
    out = graph.add("Relu", graph.conv(out, inner, inner, 3, stride=stride, groups=inner))
    out = graph.conv(out, inner, outputs, 1)
    return graph.add("Add", here, out) if inputs == outputs and stride == 1 else out
