from __future__ import annotations

import json

import pytest

from edge.protocol.request import PATHS, Call, Operation, parse
from streamkit.wire.errors import Code, HeadraceError


def refused(body: bytes, operation: Operation = Operation.CHAT) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        parse(operation, body)
    assert caught.value.code is Code.INVALID_REQUEST
    return caught.value


def call(body: bytes, operation: Operation = Operation.CHAT) -> Call:
    return parse(operation, body)


def test_what_a_relay_reads() -> None:
    body = b'{"model":"m","stream":true,"n":3,"stream_options":{"include_usage":true},"messages":[],"x":{"y":1}}'
    made = call(body)
    assert (made.model, made.stream, made.n, made.wants_usage, made.continuous_usage) == ("m", True, 3, True, False)
    assert made.body == body


def test_what_is_left_out_or_null_has_openai_s_defaults() -> None:
    for body in (b'{"model":"m"}', b'{"model":"m","stream":null,"n":null,"stream_options":null}'):
        made = call(body)
        assert (made.stream, made.n, made.wants_usage, made.continuous_usage) == (False, 1, False, False)
    made = call(b'{"model":"m","stream_options":{"continuous_usage_stats":true}}')
    assert (made.wants_usage, made.continuous_usage) == (False, True)


def test_embeddings_never_stream() -> None:
    made = call(b'{"model":"m","input":"x","stream":true,"n":5}', Operation.EMBEDDINGS)
    assert (made.stream, made.n) == (False, 1)


def test_calls_know_where_engines_take_them():
    body = b'{"model":"m","prompt":"a"}'
    paths = [parse(operation, body).path("other") for operation in PATHS]
    assert paths == [b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings"]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"{}", "model", "`model` is required"),
        (b'{"model":null}', "model", "Expected `str`, got `null`"),
        (b'{"model":""}', "model", "length >= 1"),
        (b'{"model":"%b"}' % (b"a" * 257), "model", "length <= 256"),
        (b'{"model":"m","n":0}', "n", ">= 1"),
        (b'{"model":"m","n":"2"}', "n", "got `str`"),
        (b'{"model":"m","n":99999999999999999999999}', "n", "<= 1024"),
        (b'{"model":"m","stream":"yes"}', "stream", "got `str`"),
        (b'{"model":"m","stream_options":[]}', "stream_options", "got `array`"),
        (b'{"model":"m","stream_options":{"include_usage":1}}', "stream_options.include_usage", "got `int`"),
    ],
)
def test_a_bad_field_is_named(body: bytes, param: str, says: str) -> None:
    error = refused(body)
    assert error.param == param
    assert f"`{param}`" in error.message
    assert says in error.message


@pytest.mark.parametrize(
    ("body", "byte"),
    [
        (b'{"model":"m",}', 13),
        (b'{"model":"m"}x', 13),
        (b"@", 0),
        (b'{"model" "m"}', 9),
        (b"\xef\xbb\xbf{}", 0),
    ],
)
def test_the_byte_where_json_breaks_is_named(body: bytes, byte: int) -> None:
    error = refused(body)
    assert error.param == "body"
    said = int(error.message.rsplit("byte ", 1)[1].rstrip("."))
    assert abs(said - byte) <= 1
    assert error.message.startswith("The body is not valid JSON")


@pytest.mark.parametrize("body", [b"", b" \r\n\t "])
def test_an_empty_body(body: bytes) -> None:
    assert "is empty" in refused(body).message


@pytest.mark.parametrize("body", [b'{"model":"m"', b'{"model":"m","x":[', b'{"mod'])
def test_a_cut_body(body: bytes) -> None:
    assert "truncated" in refused(body).message


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null"])
def test_what_is_no_object(body: bytes) -> None:
    assert refused(body).message.startswith("The body must be a JSON object")


def test_what_is_not_utf8() -> None:
    assert "not UTF-8" in refused(b'{"model":"\xff"}').message


@pytest.mark.parametrize("operation", list(Operation))
def test_nesting_that_would_break_the_parser(operation: Operation) -> None:
    body = b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert "nested too deeply" in refused(body, operation).message


@pytest.mark.parametrize("body", [b'{"model":"secret prompt",}', b'{"model":"m","n":"secret prompt"}'])
def test_messages_do_not_repeat_what_the_client_wrote(body: bytes) -> None:
    assert "secret" not in refused(body).message


def test_the_upstream_body_is_the_clients_own_bytes_where_nothing_must_change() -> None:
    made = call(b'{ "model" : "m", "messages" : [] }')
    assert made.upstream_body(model="m", usage=False) is made.body


def test_the_upstream_body_has_the_engines_name_and_forced_usage() -> None:
    made = call(b'{"model":"m","messages":[{"content":"model"}],"stream":true}')
    sent = json.loads(made.upstream_body(model='eng/"m"', usage=True))
    assert sent == {
        "stream_options": {"include_usage": True},
        "model": 'eng/"m"',
        "messages": [{"content": "model"}],
        "stream": True,
    }
    assert json.loads(made.upstream_body(model="m", usage=True))["model"] == "m"
