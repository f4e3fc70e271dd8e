"""Our tensors and TensorFlow's messages: the only module that knows both."""

from __future__ import annotations

from math import prod
from typing import Any, Final

from google.protobuf.message import DecodeError

from edge.protocol.malformed import MalformedError
from edge.protocol.predict.dtypes import DTYPES, STRING, from_bfloat16, pack
from edge.protocol.predict.request import Target
from edge.protocol.predict.tensors import Spec, Tensor
from streamkit.wire.pb import tfserving_pb2 as pb

__all__ = ["proto_of", "signatures", "spec_of", "tensor_of_proto"]

#: Where a TensorProto without `tensor_content` has its elements, by DataType.
_FIELDS: Final = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 9: "int64_val",
    10: "bool_val", 17: "int_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
_HALF: Final = 19
_BFLOAT16: Final = 14
#: A shape is the engine's word: one element repeated over it must not fill our memory.
_MAX_ELEMENTS: Final = 64 * 1024 * 1024


def spec_of(target: Target, signature: str = "") -> pb.ModelSpec:
    """Return which model, version and signature is meant."""
    spec = pb.ModelSpec(name=target.model, signature_name=signature)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label:
        spec.version_label = target.label
    return spec


def signatures(answer: pb.GetModelMetadataResponse) -> dict[str, dict[str, Spec]]:
    """Return the inputs of each signature that the server told.

    Raises:
        MalformedError: it told something else.
    """
    told = pb.SignatureDefMap()
    packed = answer.metadata.get("signature_def")
    try:
        if packed is None or not packed.Unpack(told):
            raise MalformedError("no signatures in the model's metadata")
    except DecodeError:
        raise MalformedError("the model's metadata cannot be read") from None
    return {
        name: {alias: Spec(alias, info.dtype, _shape(info.tensor_shape)) for alias, info in one.inputs.items()}
        for name, one in told.signature_def.items()
    }


def _shape(shape: pb.TensorShapeProto) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)


def proto_of(tensor: Tensor) -> pb.TensorProto:
    """Return a tensor as the server takes it."""
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in tensor.shape])
    made = pb.TensorProto(tensor_shape=shape, tensor_content=tensor.content, string_val=tensor.strings)
    made.dtype = tensor.dtype  # type: ignore[assignment]  # a number of `DTYPES`, which are DataType's
    return made


def tensor_of_proto(name: str, proto: pb.TensorProto) -> Tensor:
    """Return what the server sent, its elements as bytes.

    Raises:
        MalformedError: its shape is no shape, or more than we hold.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise MalformedError(f"the output {name} has no certain shape")
    count = prod(shape)
    # An empty dimension makes no elements, and may stand behind one that makes many lists.
    if prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise MalformedError(f"the output {name} claims the shape {list(shape)}")
    dtype = DTYPES.get(proto.dtype)
    if dtype is None or proto.tensor_content:
        return Tensor(proto.dtype, shape, proto.tensor_content)
    if dtype is STRING:
        return Tensor(proto.dtype, shape, strings=tuple(_filled(proto.string_val, count)))
    if proto.dtype == _HALF:
        content = b"".join(half.to_bytes(2, "little") for half in _filled(proto.half_val, count))
        return Tensor(proto.dtype, shape, content)
    if proto.dtype == _BFLOAT16:
        return Tensor(proto.dtype, shape, pack(dtype, list(from_bfloat16(_filled(proto.half_val, count)))))
    return Tensor(proto.dtype, shape, pack(dtype, _filled(getattr(proto, _FIELDS[proto.dtype]), count)))


def _filled(values: Any, count: int) -> list[Any]:
    """Return all elements: the last one given stands for those that are not (tensor.proto)."""
    given = list(values)
    return given + given[-1:] * (count - len(given)) if given else given
