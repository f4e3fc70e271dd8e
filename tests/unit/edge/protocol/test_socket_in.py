"""What a client may say on a socket, and what it is told when it says something else."""

from __future__ import annotations

import json

import pytest

from edge.protocol.socket_in import Cancel, Credit, Resume, Start, name_of, read
from streamkit.wire.errors import Code, HeadraceError

START = {"type": "start", "id": "a", "operation": "chat", "request": {"model": "m"}}


def refused(message: bytes | dict) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        read(message if isinstance(message, bytes) else json.dumps(message).encode())
    assert caught.value.code is Code.INVALID_REQUEST
    return caught.value


def test_the_request_is_kept_byte_for_byte():
    request = b'{ "model" : "m", "x":\t1.0e3, "s": "\\u00e9\xc3\xa9" }'
    said = read(b'{"request":' + request + b' ,"operation":"text_completion","id":"~!","type":"start"}')
    assert isinstance(said, Start)
    assert bytes(said.request) == request
    assert (said.id, said.operation, said.credit, said.resume, said.priority) == (
        "~!", "text_completion", None, None, None,
    )  # fmt: skip


def test_each_message_is_read():
    full = {**START, "credit": 5, "resume": 30, "priority": 1, "session": "s", "sim": "tokens=5; seed=1"}
    said = read(json.dumps(full).encode())
    assert isinstance(said, Start)
    assert (said.credit, said.resume, said.priority, said.session, said.sim) == (5, 30, 1, "s", "tokens=5; seed=1")
    assert read(b'{"type":"cancel","id":"a"}') == Cancel(id="a")
    assert read(b'{"type":"credit","id":"a","bytes":7}') == Credit(id="a", bytes=7)
    assert read(b'{"type":"resume","id":"a","stream":"hs-x","after":3}') == Resume(id="a", stream="hs-x", after=3)


@pytest.mark.parametrize(
    ("message", "param", "word"),
    [
        (b"", "message", "truncated"),
        (b"{", "message", "truncated"),
        (b'{"type":"cancel","id":"a"} ,', "message", "byte 28"),
        (b"[]", "message", "JSON object"),
        (b'"start"', "message", "JSON object"),
        (b"{}", "type", "required"),
        (b'{"type":"restart","id":"a"}', "type", "start, cancel, credit and resume"),
        (b'{"type":7}', "type", "str"),
        (b'{"type":"cancel"}', "id", "required"),
        (b'{"type":"cancel","id":5}', "id", "str"),
        (b'{"type":"cancel","id":""}', "id", "visible ASCII"),
        (b'{"type":"cancel","id":"a b"}', "id", "visible ASCII"),
        (b'{"type":"cancel","id":"a\\n"}', "id", "visible ASCII"),
        (b'{"type":"cancel","id":"' + b"x" * 65 + b'"}', "id", "64"),
        (b'{"type":"cancel","id":"a","why":1}', "why", "not known"),
        (b'{"type":"credit","id":"a"}', "bytes", "required"),
        (b'{"type":"credit","id":"a","bytes":0}', "bytes", ">= 1"),
        (b'{"type":"credit","id":"a","bytes":1e30}', "bytes", "int"),
        (b'{"type":"resume","id":"a"}', "stream", "required"),
        (b'{"type":"resume","id":"a","stream":"x","after":-1}', "after", ">= 0"),
        ({**START, "operation": "embeddings"}, "operation", "embeddings"),
        ({**START, "credit": "many"}, "credit", "int"),
        ({**START, "priority": 0}, "priority", ">= 1"),
        ({**START, "priority": 10}, "priority", "<= 9"),
        ({**START, "resume": 0}, "resume", ">= 1"),
        ({**START, "session": "two words"}, "session", "256"),
        ({**START, "sim": "\n"}, "sim", "4096"),
        ({"type": "start", "id": "a", "operation": "chat"}, "request", "required"),
    ],
)
def test_a_bad_message_names_the_field(message, param, word):
    error = refused(message)
    assert error.param == param
    assert word in error.message


def test_depth_is_no_way_to_crash():
    deep = b'{"type":"start","id":"a","operation":"chat","request":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert "deep" in refused(deep).message
    assert name_of(deep) == ""


def test_the_name_of_a_refused_start_is_found():
    assert name_of(b'{"type":"start","id":"a","operation":7}') == "a"
    assert name_of(b'{"type":"resume","id":"b"}') == "b"


@pytest.mark.parametrize(
    "message",
    [
        b"", b"{", b"[]", b"{}", b'{"type":"start"}', b'{"type":"start","id":"a b"}', b'{"type":"start","id":5}',
        b'{"type":"credit","id":"a"}', b'{"type":"cancel","id":"a","x":1}', b'{"type":"other","id":"a"}',
    ],
)  # fmt: skip
def test_a_message_that_would_have_begun_nothing_names_nothing(message):
    assert name_of(message) == ""
