"""The benchmark's WebSocket reader: an event stream comes out of it, whatever pieces a socket's bytes come in."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Frame, Opcode

from edge.protocol.socket_out import EventFrames, error_frame, started_frame, text_frame
from loadtest.relay.load.chunks import STAMP_DIGITS
from loadtest.relay.load.responses import EventScanner, ProtocolError
from loadtest.relay.load.sockets import SocketReader, handshake_bytes, start_frame
from streamkit.wire.errors import Code, HeadraceError

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def event(content: str, size: int = 0) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "pad": "x" * size, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def said(*events: bytes) -> bytes:
    out = EventFrames("s")
    started = started_frame("s", stream="", request_id="r", backend="b", simulated=False)
    return started + b"".join(frame for one in events for frame in out.frames(one))


@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
@pytest.mark.parametrize("size", [0, 200, 70_000])
def test_tokens_and_the_end_are_found_in_any_pieces(step, size):
    stamps = [10**17 + number for number in range(3)]
    events = [event(f" @{stamp:0{STAMP_DIGITS}d}", size) for stamp in stamps]
    wire = HEAD + said(*events, event(" #3#"), b"data: [DONE]\n\n")
    if size > 1000 and step < 100:
        wire = wire[: len(HEAD) + 500] + wire[len(HEAD) + 500 :]
        step = 999
    reader, scanner = SocketReader(start_frame("hello", 5)), EventScanner()
    found: list[int] = []
    for at in range(0, len(wire), step):
        found += scanner.stamps(reader.feed(wire[at : at + step]))
    assert found == stamps
    assert (reader.status, reader.ended, scanner.done, scanner.promised) == (200, True, True, 3)


def test_the_first_message_waits_for_the_handshake():
    reader = SocketReader(b"start")
    reader.feed(HEAD[:-1])
    assert reader.pending == b""
    reader.feed(HEAD[-1:])
    assert reader.pending == b"start"


def test_a_refused_handshake_and_a_failed_stream_are_told():
    reader = SocketReader(b"")
    assert b"no" in reader.feed(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
    assert (reader.status, reader.ended) == (401, False)
    reader, scanner = SocketReader(b""), EventScanner()
    frames = HEAD + error_frame(HeadraceError(Code.STREAM_BROKEN, "It broke."), "s")
    assert scanner.stamps(reader.feed(frames)) == []
    assert (reader.ended, "It broke." in scanner.error, scanner.done) == (True, True, False)


def test_pings_are_passed_over_and_nonsense_is_not():
    reader = SocketReader(b"")
    assert reader.feed(HEAD + b"\x89\x00" + text_frame(b'{"type":"started"}')) == b""
    with pytest.raises(ProtocolError):
        reader.feed(b"\x01\x00")
    with pytest.raises(ProtocolError):
        SocketReader(b"").feed(b"nonsense\r\n\r\n")


def test_what_it_sends_is_what_the_rfc_asks_for():
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in handshake_bytes("h", 1)
    frame = start_frame("hello", 5)
    assert frame[8:] == frame[-int.from_bytes(frame[2:4], "big") :]
    assert json.loads(frame[8:])["request"]["max_tokens"] == 5
    assert Frame(Opcode.TEXT, frame[8:]).serialize(mask=False)[:1] == frame[:1]
