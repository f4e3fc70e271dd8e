"""Types of settings in words: what may stand there, with its unit and its limits."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import inspect

__all__ = ["Place", "field_of", "unit", "words"]

#: By the end of a key's name.
_UNITS: Final = {
    "_bytes": "bytes",
    "_ms": "ms",
    "_mb": "MiB",
    "_mb_per_gpu": "MiB",
    "_per_s": "a second",
    "_share": "share",
    "_ratio": "share",
    "_percent": "%",
}


class Place(msgspec.Struct, frozen=True):
    """A field of a settings struct."""

    type: inspect.Type
    required: bool
    default: Any


def field_of(shape: inspect.Type, key: str) -> Place | None:
    """Return the field that a key of a table fills, or None where a table may have any key."""
    struct = _struct(shape)
    if struct is None:
        return None
    for field in struct.fields:
        if field.encode_name == key:
            made = field.default_factory
            default = made() if made is not msgspec.NODEFAULT else field.default
            return Place(field.type, field.required, default)
    raise LookupError(f"{struct.cls.__name__} has no field {key}")


def unit(key: str) -> str:
    """Return the unit that a key's name ends in; empty = it has none."""
    return next((said for end, said in _UNITS.items() if key.endswith(end)), "")


def words(shape: inspect.Type, key: str = "") -> str:
    """Return what may stand there, in a few words.

    Args:
        shape: of the value.
        key: whose name may end in a unit.
    """
    match shape:
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return ", ".join(f"`{json.dumps(value)}`" for value in shape.values)
        case inspect.IntType() | inspect.FloatType():
            span, named = _span(shape), unit(key)
            return " ".join(part for part in (named + "," if named and span else named, span) if part) or "a number"
        case inspect.StrType():
            return "text"
        case inspect.ListType() | inspect.VarTupleType():
            return f"list of {words(shape.item_type, key)}"
        case inspect.DictType():
            return f"table of {words(shape.value_type, key)} by name"
        case inspect.StructType():
            return "table"
        case inspect.UnionType():
            parts = [words(option, key) for option in shape.types if not isinstance(option, inspect.NoneType)]
            return " or ".join(parts)
    return "a value"


def _span(shape: inspect.IntType | inspect.FloatType) -> str:
    low = shape.ge if shape.ge is not None else shape.gt
    high = shape.le if shape.le is not None else shape.lt
    above = "above " if shape.ge is None and shape.gt is not None else ""
    below = "below " if shape.le is None and shape.lt is not None else ""
    if low is not None and high is not None:
        return f"{above}{low:,} to {below}{high:,}"
    if low is not None:
        return f"above {low:,}" if above else f"at least {low:,}"
    return "" if high is None else f"below {high:,}" if below else f"at most {high:,}"


def _struct(shape: inspect.Type) -> inspect.StructType | None:
    match shape:
        case inspect.StructType():
            return shape
        case inspect.UnionType():
            return next((option for option in shape.types if isinstance(option, inspect.StructType)), None)
    return None
