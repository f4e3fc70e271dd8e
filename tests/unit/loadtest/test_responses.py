from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.relay.load import chunks
from loadtest.relay.load.responses import EventScanner, ProtocolError, ResponseReader

STAMPS = [1, 987_654_321, 10**17]


def stream(stamps=STAMPS, *, usage=True) -> bytes:
    pieces = chunks.StreamBytes(7)
    return b"".join(
        [pieces.opening(), *(pieces.token(stamp) for stamp in stamps), pieces.ending(len(stamps), usage=usage)]
    )


def read(data: bytes, cuts=()):
    """Feed `data` in the pieces that `cuts` make of it."""
    reader, scanner = ResponseReader(), EventScanner()
    found = []
    edges = [0, *sorted(cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        if start < stop:
            found += scanner.stamps(reader.feed(data[start:stop]))
    return reader, scanner, found


def assert_whole(reader, scanner, found):
    assert reader.status == 200
    assert reader.ended
    assert reader.keep_alive
    assert found == STAMPS
    assert scanner.done
    assert scanner.promised == scanner.tokens == len(STAMPS)
    assert scanner.error == ""


def test_a_stream_in_one_piece():
    assert_whole(*read(stream()))


def test_a_stream_byte_by_byte():
    data = stream()
    assert_whole(*read(data, range(len(data))))


@given(st.sets(st.integers(min_value=0, max_value=len(stream())), max_size=12))
def test_a_stream_in_any_pieces(cuts):
    assert_whole(*read(stream(), cuts))


def test_a_token_is_what_a_vllm_chunk_is():
    chunk = chunks.StreamBytes(7).token(123)
    size, _, rest = chunk.partition(b"\r\n")
    assert int(size, 16) == len(rest) - 2
    assert 200 <= len(rest) <= 240
    event = json.loads(rest.removeprefix(b"data: "))
    assert event["choices"][0]["delta"]["content"].strip() == "@000000000000000123"
    assert event["choices"][0]["finish_reason"] is None


def test_events_of_several_kinds_are_valid_json():
    body = ResponseReader().feed(stream())
    events = [json.loads(event[6:]) for event in body.split(b"\n\n") if event and b"[DONE]" not in event]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["usage"]["completion_tokens"] == len(STAMPS)
    assert events[-2]["choices"][0]["finish_reason"] == "length"


def test_a_rebuilt_stream_with_other_line_ends_and_comments():
    body = b': ping\r\n\r\ndata: {"choices": [{"delta": {"content": " @000000000000000042"}}]}\r\n\r\n'
    body += b'data: {"choices": [{"delta": {"content": " #1#"}}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    scanner = EventScanner()
    found = [stamp for index in range(len(body)) for stamp in scanner.stamps(body[index : index + 1])]
    assert found == [42]
    assert scanner.done
    assert scanner.promised == 1


def test_an_error_frame_is_kept():
    scanner = EventScanner()
    scanner.stamps(b'data: {"error":{"message":"gone","code":502}}\n\ndata: [DONE]\n\n')
    assert "gone" in scanner.error
    assert scanner.done


def test_half_an_event_is_no_token_yet():
    scanner = EventScanner()
    assert scanner.stamps(b'data: {"content":" @000000000000000042"}') == []
    assert scanner.stamps(b"\n\n") == [42]


def test_a_body_with_a_length_and_what_follows_it():
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab") == b"ab"
    assert not reader.ended
    assert reader.feed(b"cd") == b"cd"
    assert reader.ended
    assert reader.keep_alive
    reader.reset()
    assert reader.feed(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") == b""
    assert reader.ended
    assert reader.status == 404


def test_a_body_up_to_the_connections_end():
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc") == b"abc"
    assert not reader.ended
    reader.feed_eof()
    assert reader.ended
    assert not reader.keep_alive


def test_a_chunked_body_cut_short_never_ends():
    reader = ResponseReader()
    reader.feed(stream()[:-5])
    reader.feed_eof()
    assert not reader.ended


def test_connection_close_is_heard():
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n")
    assert reader.ended
    assert not reader.keep_alive


def test_chunk_extensions_and_trailers():
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n"
    for cut in range(1, len(data)):
        reader = ResponseReader()
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == b"abc"
        assert reader.ended


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_refused(data):
    with pytest.raises(ProtocolError):
        ResponseReader().feed(data)
