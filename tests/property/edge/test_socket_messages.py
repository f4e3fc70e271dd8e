"""Whatever a client sends is a message or a refusal; whatever an engine sends becomes frames that can be read."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

from edge.protocol.socket_in import name_of, read
from edge.protocol.socket_out import EventFrames
from streamkit.wire.errors import BAD_INPUT, HeadraceError

VALID = (
    b'{"type":"start","id":"a","operation":"chat","request":{"model":"m","stream":true},"credit":5,"priority":3}',
    b'{"type":"cancel","id":"a"}',
    b'{"type":"credit","id":"a","bytes":65536}',
    b'{"type":"resume","id":"a","stream":"hs-1","after":12}',
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    message = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(message)))
        message[at : at + draw(st.integers(0, 6))] = draw(st.binary(max_size=6))
    return bytes(message)


def members() -> st.SearchStrategy[bytes]:
    names = st.sampled_from(
        ["type", "id", "operation", "request", "credit", "bytes", "stream", "after", "resume", "priority", "x"]
    )
    values = JSON | st.sampled_from(["start", "cancel", "credit", "resume", "chat", "a", 1])
    return st.dictionaries(names, values, max_size=8).map(lambda message: json.dumps(message).encode())


@example(b'{"type":"start","":1}')
@given(st.binary(max_size=200) | mutated() | members() | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_message_is_read_or_refused_in_words(message):
    said, refusal = None, None
    try:
        said = read(message)
    except HeadraceError as error:
        refusal = error
    if said is not None:
        assert 0 < len(said.id) <= 64
        assert said.id.isascii()
    if refusal is not None:
        assert refusal.code in BAD_INPUT
        assert refusal.param
        assert refusal.message.endswith(".")
        json.loads(refusal.envelope())
    name = name_of(message)
    assert name.isascii()
    assert len(name) <= 64


def said(out: EventFrames, data: bytes) -> list[bytes]:
    """Return frames as the outlet gets them."""
    one = out.one(data)
    return [one] if one else out.frames(data)


def texts(frames: list[bytes]) -> list[str]:
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(b"".join(frames))
    assert client.parser_exc is None
    read_frames = client.events_received()
    assert len(read_frames) == len(frames)
    assert all(frame.opcode is Opcode.TEXT and frame.fin for frame in read_frames)
    return [bytes(frame.data).decode() for frame in read_frames]


@given(st.lists(st.binary(max_size=80) | st.sampled_from([b"data: ", b"\n\n", b"\r\n\r\n", b"[DONE]", b'{"error":'])))
def test_any_bytes_of_an_engine_become_text_that_a_browser_takes(pieces):
    out = EventFrames("n")
    for piece in pieces:
        texts(said(out, piece))
    whole = EventFrames("n")
    texts(whole.frames(b"".join(pieces)))


@given(
    st.lists(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "error"), JSON, max_size=4), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
    st.text(min_size=1, max_size=5),
)
def test_objects_arrive_as_they_were_however_they_come(objects, end, ascii_, name):
    payloads = [json.dumps(one, ensure_ascii=ascii_).encode("utf-8", "replace") for one in objects]
    events = [b"data: " + payload + end + end for payload in payloads]
    together = texts(EventFrames(name).frames(b"".join(events)))
    out = EventFrames(name)
    assert [text for event in events for text in texts(said(out, event))] == together
    head = json.dumps(name, ensure_ascii=False)
    assert together == [
        f'{{"type":"event","id":{head},"seq":{number},"data":{payload.decode()}}}'
        for number, payload in enumerate(payloads, 1)
    ]
