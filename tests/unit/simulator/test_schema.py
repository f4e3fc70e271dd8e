from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.errors import EngineError
from simulator.schema import value_tokens


def value(schema: Any, key: int = 1) -> Any:
    return json.loads("".join(token.text for token in value_tokens(schema, key)))


def test_a_value_follows_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"enum": ["Oslo", "Rome"]},
            "code": {"type": "string", "minLength": 10, "maxLength": 10},
            "days": {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 5}, "minItems": 3},
            "warm": {"type": "boolean"},
            "wind": {"type": "number"},
            "none": {"type": "null"},
            "maybe": {"anyOf": [{"const": 7}, {"type": "null"}]},
            "twice": {"$ref": "#/$defs/word"},
            "either": {"type": ["string", "null"]},
        },
        "$defs": {"word": {"type": "string"}},
    }
    for key in range(20):
        given = value(schema, key)
        assert list(given) == list(schema["properties"])  # type: ignore[arg-type]
        assert given["city"] in ("Oslo", "Rome")
        assert len(given["code"]) == 10
        assert len(given["days"]) == 3
        assert all(3 <= day <= 5 for day in given["days"])
        assert isinstance(given["warm"], bool)
        assert isinstance(given["wind"], float)
        assert given["none"] is None
        assert given["maybe"] == 7
        assert isinstance(given["twice"], str)
        assert isinstance(given["either"], str)


def test_any_object_will_do_without_a_schema() -> None:
    assert isinstance(value(True), dict)


def test_a_schema_that_refers_to_itself_ends() -> None:
    assert value({"type": "object", "properties": {"next": {"$ref": "#"}}})["next"]["next"]


def test_an_unknown_type_is_refused_in_the_engines_words() -> None:
    with pytest.raises(EngineError, match=r'Failed to transform json schema .* Unsupported type "nonsense"'):
        value_tokens({"type": "nonsense"}, 1)
