"""The element types of TensorFlow that JSON can carry, and their bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

__all__ = ["DTYPES", "STRING", "DType", "pack", "unpack"]


class DType(msgspec.Struct, frozen=True):
    """One element type."""

    name: str
    #: `tensorflow.DataType`.
    code: int
    #: Of `struct`, little-endian as `tensor_content` is; empty for strings and bfloat16.
    format: str
    #: What JSON must hold: `float`, `int`, `bool` or `string`.
    kind: str


_ALL: Final = (
    DType("float", 1, "f", "float"),
    DType("double", 2, "d", "float"),
    DType("int32", 3, "i", "int"),
    DType("uint8", 4, "B", "int"),
    DType("int16", 5, "h", "int"),
    DType("int8", 6, "b", "int"),
    DType("string", 7, "", "string"),
    DType("int64", 9, "q", "int"),
    DType("bool", 10, "?", "bool"),
    DType("bfloat16", 14, "", "float"),
    DType("uint16", 17, "H", "int"),
    DType("half", 19, "e", "float"),
    DType("uint32", 22, "I", "int"),
    DType("uint64", 23, "Q", "int"),
)
DTYPES: Final = {dtype.code: dtype for dtype in _ALL}
STRING: Final = DTYPES[7]
_BFLOAT16: Final = 14


def pack(dtype: DType, values: Sequence[Any]) -> bytes:
    """Return numbers as `tensor_content` holds them.

    Raises:
        struct.error, OverflowError: a value does not fit.
    """
    if dtype.code == _BFLOAT16:
        return struct.pack(f"<{len(values)}H", *map(_to_bfloat16, values))
    return struct.pack(f"<{len(values)}{dtype.format}", *values)


def unpack(dtype: DType, content: bytes) -> list[Any]:
    """Return the numbers in `content`.

    Raises:
        struct.error: its size is no multiple of an element's.
    """
    if dtype.code == _BFLOAT16:
        return list(from_bfloat16(struct.unpack(f"<{len(content) // 2}H", content)))
    size = struct.calcsize(f"<{dtype.format}")
    return list(struct.unpack(f"<{len(content) // size}{dtype.format}", content))


def _to_bfloat16(value: float) -> int:
    """Round to the upper half of a float, to nearest even."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    if value != value:  # noqa: PLR0124  NaN
        return 0x7FC0
    return min((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, 0xFFFF)


def from_bfloat16(halves: Iterable[int]) -> Iterable[float]:
    """Return the floats whose upper halves these are."""
    return (struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves)
