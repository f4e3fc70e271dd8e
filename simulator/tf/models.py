"""The simulated models: what their signatures take, and what they answer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from streamkit.wire.pb import tfserving_pb2 as pb

__all__ = ["SIGNATURES", "Signature", "signature_def", "tensor"]

_FORMATS: Final[dict[int, str]] = {pb.DT_FLOAT: "f", pb.DT_DOUBLE: "d", pb.DT_INT64: "q", pb.DT_INT32: "i"}
Inputs = dict[str, pb.TensorProto]


class _Info(msgspec.Struct, frozen=True):
    dtype: int
    shape: tuple[int, ...]


class Signature(msgspec.Struct, frozen=True):
    """One signature."""

    inputs: dict[str, _Info]
    outputs: dict[str, _Info]
    run: Callable[[Inputs], dict[str, pb.TensorProto]]


def _numbers(proto: pb.TensorProto) -> list[float]:
    """Read elements, which our gateway sends as bytes."""
    fmt = _FORMATS[proto.dtype]
    count = len(proto.tensor_content) // struct.calcsize(f"<{fmt}")
    return list(struct.unpack(f"<{count}{fmt}", proto.tensor_content))


def tensor(dtype: int, shape: Sequence[int], values: Sequence[float]) -> pb.TensorProto:
    """Return a tensor as TensorFlow Serving sends it: by typed fields, not as `tensor_content`."""
    made = pb.TensorProto(
        tensor_shape=pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in shape])
    )
    made.dtype = dtype  # type: ignore[assignment]  # a number of DataType's
    (made.float_val if dtype == pb.DT_FLOAT else made.double_val).extend(values)
    return made


def _strings(values: Sequence[bytes]) -> pb.TensorProto:
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=len(values))])
    return pb.TensorProto(dtype=pb.DT_STRING, tensor_shape=shape, string_val=values)


def _half_plus_two(inputs: Inputs) -> dict[str, pb.TensorProto]:
    values = _numbers(inputs["x"])
    return {"y": tensor(pb.DT_FLOAT, [len(values)], [value / 2 + 2 for value in values])}


def _pair(inputs: Inputs) -> dict[str, pb.TensorProto]:
    a, b = _numbers(inputs["a"]), _numbers(inputs["b"])
    sums = [a[2 * row] + a[2 * row + 1] + b[row] for row in range(len(b))]
    return {
        "sum": tensor(pb.DT_FLOAT, [len(b)], sums),
        "label": _strings([f"row {row}".encode() for row in range(len(b))]),
    }


def _texts(inputs: Inputs) -> dict[str, pb.TensorProto]:
    given = list(inputs["texts"].string_val)
    return {"upper": _strings([text.upper() for text in given]), "raw_bytes": _strings(given)}


def _scalar(inputs: Inputs) -> dict[str, pb.TensorProto]:
    return {"y": tensor(pb.DT_DOUBLE, [], [_numbers(inputs["x"])[0] * 2])}


#: The first is the classic of TensorFlow Serving's own examples.
SIGNATURES: Final = {
    "serving_default": Signature({"x": _Info(1, (-1,))}, {"y": _Info(1, (-1,))}, _half_plus_two),
    "pair": Signature(
        {"a": _Info(1, (-1, 2)), "b": _Info(9, (-1,))}, {"sum": _Info(1, (-1,)), "label": _Info(7, (-1,))}, _pair
    ),
    "texts": Signature({"texts": _Info(7, (-1,))}, {"upper": _Info(7, (-1,)), "raw_bytes": _Info(7, (-1,))}, _texts),
    "scalar": Signature({"x": _Info(2, ())}, {"y": _Info(2, ())}, _scalar),
}


def signature_def(signature: Signature) -> pb.SignatureDef:
    """Return a signature as the model's metadata has it."""
    return pb.SignatureDef(
        inputs={name: _info(name, info) for name, info in signature.inputs.items()},
        outputs={name: _info(name, info) for name, info in signature.outputs.items()},
        method_name="tensorflow/serving/predict",
    )


def _info(name: str, info: _Info) -> pb.TensorInfo:
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in info.shape])
    made = pb.TensorInfo(name=f"{name}:0", tensor_shape=shape)
    made.dtype = info.dtype  # type: ignore[assignment]  # a number of DataType's
    return made
