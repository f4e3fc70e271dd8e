"""Frames of a server: headers as RFC 6455 §5.2 wants them, and an engine's bytes as the engine wrote them."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

from edge.protocol.socket_out import (
    EventFrames,
    cancelled_frame,
    error_frame,
    refusal_frame,
    started_frame,
    text_frame,
)
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import DONE

CHUNK = b'{"id":"x","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}'


def texts(*frames: bytes) -> list[bytes]:
    """Return the texts of frames, as a real client reads them."""
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(b"".join(frames))
    assert client.parser_exc is None
    read = client.events_received()
    assert all(frame.opcode is Opcode.TEXT and frame.fin for frame in read)
    return [bytes(frame.data) for frame in read]


def messages(*frames: bytes) -> list[dict]:
    return [json.loads(text) for text in texts(*frames)]


def told(out: EventFrames, data: bytes) -> list[bytes]:
    """Return frames as the outlet gets them."""
    one = out.one(data)
    return [one] if one else out.frames(data)


def event(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_frame_of_any_length_is_read_as_it_was_written(size):
    assert texts(text_frame(b"x" * size)) == [b"x" * size]


@pytest.mark.parametrize("size", [2, 60, 80, 120, 65_450, 65_490, 65_500, 65_600])
def test_an_event_is_embedded_byte_for_byte(size):
    payload = b'{"a":"' + b"x" * (size - 2) + b'"}'
    frames = told(EventFrames("n"), event(payload))
    assert texts(*frames) == [b'{"type":"event","id":"n","seq":1,"data":' + payload + b"}"]


def test_a_name_is_written_as_json():
    assert messages(*told(EventFrames('"\\'), event(CHUNK)))[0]["id"] == '"\\'


def test_events_are_numbered_done_included():
    out = EventFrames("n", seq=4)
    said = messages(*told(out, event(CHUNK) * 3), *told(out, event(CHUNK) + DONE))
    assert [message["seq"] for message in said] == [5, 6, 7, 8, 9]
    assert said[-1] == {"type": "done", "id": "n", "seq": 9}
    assert out.ended


def test_nothing_follows_the_end():
    out = EventFrames("n")
    assert messages(*told(out, DONE + event(CHUNK) + DONE))[0]["type"] == "done"
    assert told(out, event(CHUNK)) == told(out, event(CHUNK) * 2) == told(out, DONE) == []


@pytest.mark.parametrize("data", [b": ping\n\n", b": ping\n", b"", b":\n\n: x\n\n", b"event: x\n\n", b"data:\n\n"])
def test_what_carries_nothing_gives_no_frame(data):
    out = EventFrames("n")
    assert told(out, data) == []
    assert out.seq == 0


@pytest.mark.parametrize(
    "data",
    [
        b"data:" + CHUNK + b"\n\n",
        b"data: " + CHUNK + b"\r\n\r\n",
        b"data: " + CHUNK + b"\r\r",
        b"event: x\ndata: " + CHUNK + b"\n\n",
        b": ping\ndata: " + CHUNK + b"\n\n",
        b"data: " + CHUNK + b"\nid: 7\n\n",
        b"\n\ndata: " + CHUNK + b"\n\n",
    ],
)
def test_other_framings_of_an_event_mean_the_same(data):
    out = EventFrames("n")
    said = [*told(out, data), *told(out, data * 2)]
    assert texts(*said) == [b'{"type":"event","id":"n","seq":%d,"data":%b}' % (n, CHUNK) for n in (1, 2, 3)]


def test_the_numbers_of_a_resumable_stream_are_kept():
    out = EventFrames("n", seq=6)
    numbered = [b"id: %d\ndata: " % number + CHUNK + b"\n\n" for number in (7, 8)]
    said = messages(*told(out, numbered[0]), *told(out, numbered[1] + b"id: 9\n" + DONE))
    assert [(message["type"], message["seq"]) for message in said] == [("event", 7), ("event", 8), ("done", 9)]


def test_data_on_several_lines_is_one_message():
    said = messages(*told(EventFrames("n"), b'data: {"a":\ndata: 1}\n\n'))
    assert said == [{"type": "event", "id": "n", "seq": 1, "data": {"a": 1}}]


def test_text_beyond_ascii_passes_untouched():
    payload = '{"a":"déjà 水車 🌊"}'.encode()
    for data in (event(payload), event(payload) * 2):
        for text in texts(*told(EventFrames("n"), data)):
            assert payload in text


def test_bytes_that_are_no_utf8_cost_a_replacement_character_and_not_the_socket():
    half = '{"a":"水"}'.encode().replace(b"\xb4", b"")
    for data in (event(half), event(half) + event(CHUNK)):
        said = messages(*told(EventFrames("n"), data))
        assert said[0]["data"] == {"a": "\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("payload", [b"hello", b"[1]", b'"}', b'{"a":1', b"7"])
def test_what_is_no_object_comes_as_a_string(payload):
    said = messages(*told(EventFrames("n"), event(payload)))
    assert said[0]["data"] == payload.decode()


def test_an_error_frame_of_ours_becomes_an_error_with_its_advice():
    error = HeadraceError(Code.STREAM_BROKEN, "It broke.")
    (said,) = messages(*told(EventFrames("n"), error.frame() + DONE))
    assert said == {
        "type": "error",
        "id": "n",
        "status": 502,
        "retry_after_ms": 0,
        "error": {"message": "It broke.", "type": "server_error", "param": None, "code": "stream_broken"},
    }


def test_events_before_an_error_come_before_it():
    error = HeadraceError(Code.STREAM_STALLED, "It stalled.")
    out = EventFrames("n")
    said = messages(*told(out, event(CHUNK) + error.frame() + DONE))
    assert [message["type"] for message in said] == ["event", "error"]
    assert out.ended


@pytest.mark.parametrize(
    ("payload", "error", "status"),
    [
        (
            b'{"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}',
            {"message": "boom", "type": "InternalServerError", "param": None, "code": 500},
            500,
        ),
        (b'{"id":"done","type":"done","error":{"message":"boom"}}', {"message": "boom"}, 502),
        (b'{"x":1,"error":"Unauthorized"}', None, 502),
    ],
)
def test_an_engines_error_frame_cannot_pass_for_anything_else(payload, error, status):
    (said,) = messages(*told(EventFrames("n"), event(payload) + DONE))
    assert (said["type"], said["id"], said["status"]) == ("error", "n", status)
    if error is None:
        assert said["error"]["message"] == "Unauthorized"
    else:
        assert said["error"] == error


def test_an_event_error_line_is_an_error():
    data = b'event: error\ndata: {"error":{"message":"boom"}}\n\n'
    (said,) = messages(*told(EventFrames("n"), data + DONE))
    assert (said["type"], said["error"]) == ("error", {"message": "boom"})


def test_the_errors_of_messages_name_no_stream():
    said, named = messages(
        error_frame(HeadraceError(Code.CONFLICT, "Twice.")), error_frame(HeadraceError(Code.SATURATED, "Full."), "n")
    )
    assert "id" not in said
    assert (said["status"], said["error"]["code"]) == (409, "conflict")
    assert (named["id"], named["status"], named["retry_after_ms"], named["reason"]) == (
        "n", 429, 1000, "rejected-saturated",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"no"},"type":"done"}', "no"),
        (b'{"detail":"no"}', "no"),
        (b'{"error":"no"}', "no"),
        (b"nonsense", "an error without a message"),
    ],
)
def test_an_engines_refusal_is_read_in_any_shape(body, message):
    (said,) = messages(refusal_frame(body, 422, "n"))
    assert (said["type"], said["status"], said["error"]["message"]) == ("error", 422, message)


def test_the_other_messages():
    said = messages(
        started_frame("n", stream="hs-1", request_id="r", backend="b", simulated=True),
        started_frame("n", stream="", request_id="r", backend=None, simulated=False),
        cancelled_frame("n"),
    )
    assert said == [
        {"type": "started", "id": "n", "request_id": "r", "stream": "hs-1", "backend": "b", "simulated": True},
        {"type": "started", "id": "n", "request_id": "r"},
        {"type": "cancelled", "id": "n"},
    ]
