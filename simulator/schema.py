"""A JSON value that follows a schema, for forced tools and structured output: the same one each time."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from simulator.errors import bad_schema
from simulator.tokens import Token, pieces

__all__ = ["value_tokens"]

_WORDS: Final = ("river", "harbour", "lantern", "orchard", "bridge", "meadow")
_MAX_DEPTH: Final = 8
_JSON_OBJECT: Final = {"type": "object", "properties": {"answer": {"type": "string"}, "steady": {"type": "boolean"}}}


def value_tokens(schema: dict[str, Any] | bool, key: int) -> list[Token]:
    """Return the tokens of one JSON document that follows `schema`; `True` stands for any object.

    Args:
        schema: a JSON schema: types, enum, const, properties, items, anyOf and local `$ref`s are followed.
        key: 32 bits that choose among what is allowed.

    Raises:
        EngineError: a type that does not exist (c08_bad_schema).
    """
    if not isinstance(schema, dict):
        schema = _JSON_OBJECT
    text = json.dumps(_value(schema, schema, key, 0), ensure_ascii=False, separators=(",", ":"))
    return pieces(text)


def _value(schema: Any, root: dict[str, Any], key: int, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    key = (key * 1103515245 + 12345) & 0x7FFFFFFF
    if "$ref" in schema:
        return _value(_resolve(str(schema["$ref"]), root), root, key, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][(key >> 8) % len(schema["enum"])]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return _value(schema[union][0], root, key, depth + 1)
    type_ = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(type_, list):
        type_ = type_[0]
    if type_ == "object":
        fields = schema.get("properties") or {}
        return {
            name: _value(field, root, key ^ i * 7919, depth + 1) for i, (name, field) in enumerate(fields.items())
        }
    if type_ == "array":
        length = max(int(schema.get("minItems", 2)), 0)
        return [_value(schema.get("items", {}), root, key ^ i * 7919, depth + 1) for i in range(length)]
    if type_ == "string":
        word = _WORDS[(key >> 8) % len(_WORDS)]
        return word.ljust(int(schema.get("minLength", 0)), "~")[: schema.get("maxLength")]
    if type_ in ("integer", "number"):
        low = schema.get("minimum", 0)
        number = low + (key >> 8) % max(1, int(schema.get("maximum", low + 100) - low + 1))
        return int(number) if type_ == "integer" else float(number)
    if type_ == "boolean":
        return bool(key >> 8 & 1)
    if type_ == "null":
        return None
    raise bad_schema(f'[{time.strftime("%H:%M:%S")}] <path>:4944: Unsupported type "{type_}"')


def _resolve(reference: str, root: dict[str, Any]) -> Any:
    at: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if not part:
            return root
        at = at.get(part) if isinstance(at, dict) else None
    return at
