"""Writing settings in the form of `headrace.toml`; the standard library only reads TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["changed", "document"]


def changed(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of `struct` that differ from their defaults, as TOML could hold them."""
    table: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        made = field.default_factory
        default = field.default if made is msgspec.NODEFAULT else made()
        if value is not None and value != default:
            table[field.encode_name] = msgspec.to_builtins(value)
    return table


def document(heading: str, tables: Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]) -> str:
    """Return a TOML document.

    Args:
        heading: text of a comment at its top.
        tables: by name, a table, or several for an array of tables; empty tables are written, too.
    """
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    for name, content in tables.items():
        if isinstance(content, Mapping):
            lines += ["", *_table(f"[{name}]", content)]
        else:
            for item in content:
                lines += ["", *_table(f"[[{name}]]", item)]
    return "\n".join(lines) + "\n"


def _table(head: str, content: Mapping[str, Any]) -> list[str]:
    return [head, *(f"{key} = {_value(value)}" for key, value in content.items())]


def _key(name: str) -> str:
    # A bare key has none of the characters that a model's name may have.
    return name if name.replace("_", "a").replace("-", "a").isalnum() and name.isascii() else _value(name)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
