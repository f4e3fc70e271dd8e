"""Byte splices by example; tests/property/edge/test_splice.py holds them against a JSON parser."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from edge.protocol.splice import force_usage, replace_model, top_level


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (b'  {  "a":1}\n', b'  {"stream_options":{"include_usage":true},  "a":1}\n'),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{ "x" :1}}', b'{"stream_options":{"include_usage":true, "x" :1}}'),
        (b'{"stream_options":{"include_usage":false}}', b'{"stream_options":{"include_usage":true}}'),
        (
            b'{"stream_options":{"include_usage" : null , "x":1}}',
            b'{"stream_options":{"include_usage" : true , "x":1}}',
        ),
        (
            b'{"tools":[{"stream_options":null}],"stream_options":{"x":{"include_usage":false}}}',
            b'{"tools":[{"stream_options":null}],"stream_options":{"include_usage":true,"x":{"include_usage":false}}}',
        ),
    ],
)
def test_usage_is_forced(body: bytes, edited: bytes) -> None:
    assert force_usage(body) == edited


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b'{"messages":[{"model":"x"}], "model" : "a" }', b'{"messages":[{"model":"x"}], "model" : "b" }'),
        (b'{"model":"a","model":"c"}', b'{"model":"a","model":"b"}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"b"}'),
        (b'{"x":"\\"model\\":\\"y\\"","model":"a\\"}"}', b'{"x":"\\"model\\":\\"y\\"","model":"b"}'),
    ],
)
def test_the_model_is_replaced(body: bytes, edited: bytes) -> None:
    assert replace_model(body, b'"b"') == edited


def test_a_request_without_a_model_is_our_bug() -> None:
    with pytest.raises(ValueError, match="no model"):
        replace_model(b'{"a":{"model":"x"}}', b'"b"')


def test_a_key_is_found_where_it_stands() -> None:
    body = b' {"a":[1,{"b":2}],"b":{"c":"}"},"d":-1.5e3}'
    assert top_level(body, b"a") == (6, 17)
    assert body[slice(*top_level(body, b"b") or ())] == b'{"c":"}"}'
    assert body[slice(*top_level(body, b"d") or ())] == b"-1.5e3"
    assert top_level(body, b"c") is None
    assert top_level(body, b"c", (top_level(body, b"b") or (0, 0))[0]) is not None


def test_a_long_string_costs_no_memory_of_its_length() -> None:
    image = b"A" * 1_000_000 + b"\\n" * 100_000
    body = b'{"messages":[{"content":"%b"}],%b"model":"a"}' % (image, b" " * 500_000)
    tracemalloc.start()
    span = top_level(body, b"model")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert span == (len(body) - 4, len(body) - 1)
    assert peak < 2 * len(body)
    assert json.loads(replace_model(body, b'"b"'))["model"] == "b"
