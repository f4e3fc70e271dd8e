"""Any JSON request, however it is written: the splice does what an edit of the parsed request would do."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.protocol.splice import force_usage, replace_model, top_level

NAMES = ["model", "stream_options", "include_usage", "messages", "a", 'mo"del', "stream_options ", "", "日本", "\\"]
spaces = st.sampled_from(["", "", " ", "\n", "\t\r\n "])
strings = st.one_of(st.sampled_from(NAMES), st.text(max_size=6))


@st.composite
def written(draw: st.DrawFn, text: str) -> str:
    """Write a string in one of the ways that JSON has for it."""
    style = draw(st.sampled_from(["plain", "ascii", "escaped"]))
    if style == "escaped":
        at = draw(st.integers(0, len(text)))
        codes = "".join(
            f"\\u{unit:04x}"
            for char in text[at : at + 1]
            for unit in memoryview(char.encode("utf-16-le", "surrogatepass")).cast("H")
        )
        return json.dumps(text[:at])[:-1] + codes + json.dumps(text[at + 1 :])[1:]
    return json.dumps(text, ensure_ascii=style == "ascii")


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kinds = ["null", "bool", "number", "string"] + (["list", "object"] if depth else [])
    match draw(st.sampled_from(kinds)):
        case "null":
            return "null"
        case "bool":
            return draw(st.sampled_from(["true", "false"]))
        case "number":
            return draw(st.sampled_from(["0", "-1.5e3", "12345678901234567890", "1E+2"]))
        case "string":
            return draw(strings.flatmap(written))
        case "list":
            items = draw(st.lists(values(depth - 1), max_size=3))
            return "[" + draw(spaces) + ("," + draw(spaces)).join(items) + draw(spaces) + "]"
        case _:
            return draw(objects(depth - 1))


@st.composite
def objects(draw: st.DrawFn, depth: int = 2, more: tuple[tuple[str, str], ...] = ()) -> str:
    members = draw(st.lists(st.tuples(strings, values(depth)), max_size=4)) + list(more)
    members = draw(st.permutations(members))
    rows = [
        draw(spaces) + draw(written(name)) + draw(spaces) + ":" + draw(spaces) + value + draw(spaces)
        for name, value in members
    ]
    return "{" + (",".join(rows) or draw(spaces)) + "}"


@st.composite
def requests(draw: st.DrawFn, name: str, value: st.SearchStrategy[str]) -> bytes:
    more = tuple((name, text) for text in draw(st.lists(value, max_size=2)))
    body = draw(spaces) + draw(objects(more=more)) + draw(spaces)
    assume("\ud800" not in body)
    return body.encode("utf-8", "surrogatepass")


def surroundings(body: bytes, edited: bytes) -> tuple[int, int]:
    """Return how many bytes at the beginning and at the end are the same."""
    size = min(len(body), len(edited))
    front = next((at for at in range(size) if body[at] != edited[at]), size)
    back = next((at for at in range(size - front) if body[-1 - at] != edited[-1 - at]), size - front)
    return front, back


options = st.one_of(st.just("null"), objects(1, (("include_usage", "false"),)), objects(1))


@settings(max_examples=250)
@given(requests("stream_options", options))
def test_forced_usage_is_the_edit_of_the_parsed_request(body: bytes) -> None:
    wanted: dict[str, Any] = json.loads(body)
    assume(isinstance(wanted.get("stream_options") or {}, dict))
    wanted["stream_options"] = (wanted.get("stream_options") or {}) | {"include_usage": True}
    edited = force_usage(body)
    assert json.loads(edited) == wanted
    if edited == body:
        return  # it was asked for already
    front, back = surroundings(body, edited)
    start, stop = front, len(body) - back
    span = top_level(body, b"stream_options")
    if span is not None and body[span[0] : span[0] + 1] == b"{":
        span = top_level(body, b"include_usage", span[0])
    if span is None:
        assert start == stop, "something was put in, nothing taken out"
    else:
        assert span[0] <= start <= stop <= span[1], "only the value was changed"


@settings(max_examples=250)
@given(requests("model", strings.map(json.dumps)), strings)
def test_a_replaced_model_is_the_edit_of_the_parsed_request(body: bytes, name: str) -> None:
    wanted: dict[str, Any] = json.loads(body)
    assume("model" in wanted)
    model = json.dumps(name).encode()
    span = top_level(body, b"model")
    assert span is not None
    assert json.loads(body[slice(*span)]) == wanted["model"]
    edited = replace_model(body, model)
    assert json.loads(edited) == wanted | {"model": name}
    assert edited == body[: span[0]] + model + body[span[1] :]


@settings(max_examples=200)
@given(requests("a", values()), strings)
def test_a_top_level_key_is_found_where_the_parser_finds_it(body: bytes, name: str) -> None:
    assume(name.isascii())
    parsed = json.loads(body)
    span = top_level(body, name.encode())
    if name in parsed:
        assert span is not None
        assert json.loads(body[slice(*span)]) == parsed[name]
    else:
        assert span is None
