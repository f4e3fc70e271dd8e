"""A prediction's outputs as JSON, in the format of its request."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from math import prod
from typing import Any, Final

from edge.protocol.malformed import MalformedError
from edge.protocol.predict.dtypes import DTYPES, STRING, unpack
from edge.protocol.predict.tensors import Tensor, nested, refuse

__all__ = ["answer"]

#: TensorFlow Serving's own rule for outputs that are binary.
_BINARY_SUFFIX: Final = "_bytes"


def answer(outputs: Mapping[str, Tensor], *, row: bool) -> bytes:
    """Return the body: one output stands alone, several stand by name.

    NaN and infinities are written as TensorFlow Serving writes them, which strict JSON does not know.

    Raises:
        HeadraceError: INVALID_REQUEST; the outputs have no common first dimension, so there are no rows of them.
        MalformedError: an output's bytes do not fill its shape, or its type is none of ours.
    """
    if not row:
        values = {name: _value(name, tensor) for name, tensor in outputs.items()}
        return _json({"outputs": next(iter(values.values())) if len(values) == 1 else values})
    sizes = {tensor.shape[0] if tensor.shape else None for tensor in outputs.values()}
    if len(sizes) != 1 or None in sizes:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(outputs.items()))
        raise refuse("instances", f"cannot be answered row by row: the outputs are {shapes}; ask with `inputs`")
    columns = {name: _value(name, tensor) for name, tensor in outputs.items()}
    if len(columns) == 1:
        return _json({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return _json({"predictions": rows})


def _value(name: str, tensor: Tensor) -> Any:
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None:
        raise MalformedError(f"the output {name} has a type that JSON cannot carry (DataType {tensor.dtype})")
    elements: list[Any]
    try:
        if dtype is STRING:
            elements = [_string(name, text) for text in tensor.strings]
        else:
            elements = unpack(dtype, tensor.content)
    except struct.error:
        raise MalformedError(f"the output {name} does not fill its shape") from None
    if len(elements) != prod(tensor.shape):
        raise MalformedError(f"the output {name} has {len(elements)} elements in the shape {list(tensor.shape)}")
    return nested(elements, tensor.shape)


def _string(name: str, text: bytes) -> Any:
    if not name.endswith(_BINARY_SUFFIX):
        try:
            return text.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(text).decode()}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
