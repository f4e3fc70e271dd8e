"""Tensors between JSON and bytes: nested lists flattened and checked against a signature, and built up again."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from edge.protocol.predict.dtypes import DTYPES, STRING, DType, pack
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Place", "Spec", "Tensor", "flatten", "nested", "refuse", "tensor_of"]

_KINDS: Final[dict[str, set[type]]] = {"float": {int, float}, "int": {int}, "bool": {bool}}
#: Names the place of an element by its index in each dimension.
Place = Callable[[Sequence[int]], str]


class Spec(msgspec.Struct, frozen=True):
    """One input or output of a signature."""

    name: str
    #: `tensorflow.DataType`.
    dtype: int
    #: A dimension of None takes any size; None altogether takes any rank.
    shape: tuple[int | None, ...] | None


class Tensor(msgspec.Struct, frozen=True):
    """One tensor."""

    dtype: int
    shape: tuple[int, ...]
    #: Numbers, little-endian in row-major order; empty for strings.
    content: bytes = b""
    strings: tuple[bytes, ...] = ()


def refuse(field: str, why: str) -> HeadraceError:
    """Return the refusal of one place of the body."""
    return HeadraceError(Code.INVALID_REQUEST, f"`{field}` {why}.", param=field)


def tensor_of(value: object, spec: Spec, place: Place) -> Tensor:
    """Return a JSON value as the tensor that `spec` asks for.

    Raises:
        HeadraceError: INVALID_REQUEST; a ragged list, an element of another type, a shape that does not fit.
    """
    dtype = DTYPES.get(spec.dtype)
    if dtype is None:
        raise refuse(place(()), f"has a type that JSON cannot carry (TensorFlow's DataType {spec.dtype})")
    leaves, shape = flatten(value, place)
    _check_shape(shape, spec, place)
    if dtype is STRING:
        strings = tuple(_string(leaf, place(_index(at, shape))) for at, leaf in enumerate(leaves))
        return Tensor(dtype.code, shape, strings=strings)
    _check_kinds(leaves, dtype, shape, place)
    try:
        return Tensor(dtype.code, shape, pack(dtype, leaves))
    except (struct.error, OverflowError):
        raise _out_of_range(leaves, dtype, shape, place) from None


def flatten(value: object, place: Place) -> tuple[list[Any], tuple[int, ...]]:
    """Return the elements in row-major order, and the shape.

    Raises:
        HeadraceError: INVALID_REQUEST; lists of different lengths, or lists beside elements.
    """
    level: list[Any] = [value]
    shape: list[int] = []
    while level and isinstance(level[0], list):
        size = len(level[0])
        for at, item in enumerate(level):
            if not isinstance(item, list):
                raise refuse(place(_index(at, shape)), f"must be a list of {size}, as its neighbours are")
            if len(item) != size:
                raise refuse(place(_index(at, shape)), f"has {len(item)} elements where its neighbours have {size}")
        shape.append(size)
        level = [inner for item in level for inner in item]
    for at, item in enumerate(level):
        if isinstance(item, list):
            raise refuse(place(_index(at, shape)), "is a list where its neighbours are none")
    return level, tuple(shape)


def nested(values: Sequence[Any], shape: Sequence[int]) -> Any:
    """Return row-major `values` as lists in lists."""
    if not shape:
        return values[0]
    if 0 in shape:
        return _hollow(shape)
    level = list(values)
    for size in reversed(shape[1:]):
        level = [level[at : at + size] for at in range(0, len(level), size)]
    return level


def _hollow(shape: Sequence[int]) -> list[Any]:
    """Return the lists of a shape that holds no element."""
    return [_hollow(shape[1:]) for _ in range(shape[0])] if shape[0] else []


def _index(at: int, shape: Sequence[int]) -> list[int]:
    """Return the index in each dimension of element number `at`."""
    index: list[int] = []
    for size in reversed(shape):
        at, inner = divmod(at, size)
        index.insert(0, inner)
    return index


def _check_shape(shape: tuple[int, ...], spec: Spec, place: Place) -> None:
    wanted = spec.shape
    if wanted is None:
        return
    if len(shape) != len(wanted) or any(
        size is not None and size != given for size, given in zip(wanted, shape, strict=True)
    ):
        raise refuse(place(()), f"has the shape {_shown(shape)}, and `{spec.name}` takes {_shown(wanted)}")


def _shown(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"


def _check_kinds(leaves: list[Any], dtype: DType, shape: tuple[int, ...], place: Place) -> None:
    # JSON true is no number here, though Python would take it for one.
    allowed = _KINDS[dtype.kind]
    if set(map(type, leaves)) <= allowed:
        return
    at = next(number for number, leaf in enumerate(leaves) if type(leaf) not in allowed)
    raise refuse(place(_index(at, shape)), f"must be a {dtype.name}, and is {_named(leaves[at])}")


def _out_of_range(leaves: list[Any], dtype: DType, shape: tuple[int, ...], place: Place) -> HeadraceError:
    for at, leaf in enumerate(leaves):
        try:
            pack(dtype, [leaf])
        except (struct.error, OverflowError):
            return refuse(place(_index(at, shape)), f"does not fit into a {dtype.name}")
    return refuse(place(()), f"does not fit into a {dtype.name}")


def _string(leaf: object, at: str) -> bytes:
    if isinstance(leaf, str):
        return leaf.encode()
    if isinstance(leaf, dict) and set(leaf) == {"b64"} and isinstance(leaf["b64"], str):
        try:
            return base64.b64decode(leaf["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise refuse(f"{at}.b64", "is not valid base64") from None
    raise refuse(at, f'must be a string or {{"b64": "…"}}, and is {_named(leaf)}')


def _named(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
