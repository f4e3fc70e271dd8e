"""The byte scans against parsed JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.wire.openai import empty_delta, error_of, marks_of, ordinary, usage_of
from tests.property.wire import reference
from tests.property.wire.streams import payloads, texts

styles = st.sampled_from([{"separators": (",", ":")}, {}, {"separators": (" , ", " : ")}])


def event_of(payload: Any, style: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, **style).encode() + b"\n\n"


def is_empty(payload: dict[str, Any]) -> bool:
    """Nothing but a role in any choice."""
    choices = payload.get("choices") or []
    if any("text" in choice for choice in choices):
        return all(choice["text"] == "" for choice in choices)
    rest = [value for choice in choices for key, value in choice["delta"].items() if key != "role"]
    return bool(choices) and all(value in ("", None, []) for value in rest)


@settings(max_examples=200)
@given(st.integers(1, 3).flatmap(payloads).filter(lambda payload: payload is not None), styles)
def test_marks_and_emptiness_are_those_of_the_parsed_chunk(payload: dict[str, Any], style: dict[str, Any]) -> None:
    event = event_of(payload, style)
    assert marks_of(event) == reference.marks_of([event.strip()])
    assert empty_delta(event) == is_empty(payload)


keys = st.sampled_from(["content", "reasoning_content", "reasoning", "tool_calls", "refusal", "function_call"])
empties = st.sampled_from(["", None, []])
fulls = st.one_of(texts.filter(bool), st.just([{"index": 0, "function": {"arguments": ""}}]))


@settings(max_examples=100)
@given(st.lists(st.dictionaries(keys, empties), min_size=1, max_size=3), st.data(), styles)
def test_one_value_in_one_choice_makes_a_first_event(
    deltas: list[dict[str, Any]], data: st.DataObject, style: dict[str, Any]
) -> None:
    def chunk() -> bytes:
        choices = [
            {"index": index, "delta": {"role": "assistant"} | delta, "finish_reason": None}
            for index, delta in enumerate(deltas)
        ]
        return event_of({"choices": choices}, style)

    assert empty_delta(chunk())
    deltas[data.draw(st.integers(0, len(deltas) - 1))][data.draw(keys)] = data.draw(fulls)
    assert not empty_delta(chunk())


@settings(max_examples=100)
@given(st.lists(st.integers(1, 3).flatmap(payloads).filter(bool), min_size=1, max_size=4))
def test_ordinary_never_overlooks_a_mark(chunks: list[dict[str, Any]]) -> None:
    events = [event_of(chunk, {"separators": (",", ":")}) for chunk in chunks]
    if ordinary(b"".join(events), len(events)):
        assert not any(reference.marks_of([event.strip()]) for event in events)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "detail", "message", "code", "usage"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.one_of(json_values.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
def test_no_body_makes_the_readers_raise(body: bytes) -> None:
    for event in (False, True):
        data = b"data: " + body + b"\n\n" if event else body
        usage_of(data, event=event)
        found = error_of(data, event=event)
        assert found is None or isinstance(found.message, str)
