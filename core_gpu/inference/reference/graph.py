"""Building an ONNX graph with seeded random weights, and counting what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

__all__ = ["AUDIO_SHAPE", "FEATURES", "MEL_SHAPE", "OUTPUT_SHAPE", "VISUAL_SHAPE", "Cost", "Graph", "cost"]

#: The published unet_328 interface (facts: SyncTalk_2D), without the batch.
VISUAL_SHAPE: Final = (6, 320, 320)
AUDIO_SHAPE: Final = (32, 16, 16)
OUTPUT_SHAPE: Final = (3, 320, 320)
#: The published audio encoder's: one window of log-mels in, so many features out.
MEL_SHAPE: Final = (1, 80, 16)
FEATURES: Final = 512
_MOUTH: Final = {"input": VISUAL_SHAPE, "audio": AUDIO_SHAPE}
#: The newest that every onnxruntime of the last years reads.
_OPSET: Final = 17
_IR: Final = 8


class Graph:
    """A graph under construction: each method adds a node and returns its output's name.

    Args:
        seed: of the weights; the same seed makes the same file.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of any kind with one output."""
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, value: np.ndarray[Any, Any]) -> str:
        """Add a constant."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def numbers(self, *values: float) -> str:
        """Add a constant vector of float32, or a scalar if there is one."""
        array = np.array(values if len(values) > 1 else values[0], dtype=np.float32)
        return self.weight(array)

    def conv(
        self, name: str, inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, pad: int = -1
    ) -> str:
        """Add a convolution with a bias, batch normalisation folded in; `pad` -1 keeps sizes but for its stride."""
        fan_in = inputs // groups * size * size
        shape = (outputs, inputs // groups, size, size)
        scale = np.sqrt(1.0 / fan_in)
        kernel = (self._random.standard_normal(shape) * scale).astype(np.float32)
        bias = np.zeros(outputs, dtype=np.float32)
        return self.add(
            "Conv", name, self.weight(kernel), self.weight(bias),
            kernel_shape=[size, size], strides=[stride, stride], pads=[size // 2 if pad < 0 else pad] * 4,
            group=groups,
        )  # fmt: skip

    def model(
        self,
        output: str,
        *,
        name: str,
        inputs: Mapping[str, Sequence[int]] = _MOUTH,
        output_shape: Sequence[int] = OUTPUT_SHAPE,
    ) -> onnx.ModelProto:
        """Return the whole as a checked model; left out, with the published unet's interface."""

        def value(called: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(called, TensorProto.FLOAT, ["N", *shape])

        self._nodes.append(helper.make_node("Identity", [output], ["output"], name="output"))
        graph = helper.make_graph(
            self._nodes,
            name,
            [value(called, shape) for called, shape in inputs.items()],
            [value("output", output_shape)],
            self._weights,
        )
        made = helper.make_model(
            graph, producer_name="headrace", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
        )
        onnx.checker.check_model(made)
        return made


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs.

    Args:
        parameters: numbers in its weights.
        macs: multiply-accumulates of its convolutions for one frame.
    """

    parameters: int
    macs: int


def cost(model: onnx.ModelProto) -> Cost:
    """Count a model's parameters, and the multiply-accumulates of its convolutions for a batch of one."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for tensor in (*single.graph.input, *single.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(single, strict_mode=True, data_prop=True)
    shapes = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    }
    kernels = {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    macs = 0
    for node in inferred.graph.node:
        if node.op_type == "Conv":
            macs += int(np.prod(kernels[node.input[1]][1:])) * int(np.prod(shapes[node.output[0]]))
        elif node.op_type == "ConvTranspose":
            macs += int(np.prod(kernels[node.input[1]][1:])) * int(np.prod(shapes[node.input[0]]))
    return Cost(sum(int(np.prod(dims)) for dims in kernels.values()), macs)
