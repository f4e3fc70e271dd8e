"""EventSplitter on what engines really send; the grammar itself is held in tests/property/wire."""

from __future__ import annotations

import json

import pytest

from streamkit.wire.events import Mark
from streamkit.wire.sse import CONTENT_TYPE, EventSplitter, EventTooLargeError, heartbeat
from tests.unit.streamkit.wire import vectors

DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
CAPTURED = vectors.streams()


def split(stream: bytes, size: int, n: int) -> list[tuple[bytes, int]]:
    splitter = EventSplitter(1 << 20, one_choice=n == 1)
    out = []
    for at in range(0, len(stream), size):
        batch = splitter.push(stream[at : at + size])
        if batch is not None:
            out += [(event.data, event.marks) for event in batch.split()]
    assert splitter.held_bytes == 0
    return out


def expected(stream: bytes) -> list[tuple[bytes, int]]:
    """Class a captured stream (one LF-framed data line an event) by parsing every chunk."""
    out = []
    for block in stream.split(b"\n\n"):
        lines = [line for line in block.split(b"\n") if line.startswith(b"data:")]
        if not lines:
            continue
        (line,) = lines
        marks = 0
        if line == b"data: [DONE]":
            marks = Mark.DONE
        else:
            chunk = json.loads(line[5:])
            choices = chunk.get("choices") or []
            if any(choice.get("finish_reason") for choice in choices):
                marks |= Mark.FINISH
            if not choices and "error" in chunk:
                marks |= Mark.ERROR
            if not choices and chunk.get("usage"):
                marks |= Mark.USAGE
        out.append((line + b"\n\n", marks))
    return out


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
@pytest.mark.parametrize("size", [1, 7, 300, 4096, 1 << 20])
def test_captured_streams_are_cut_and_classed(captured: vectors.Captured, size: int) -> None:
    assert split(captured.body, size, captured.n) == expected(captured.body)


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
def test_captured_streams_end_as_their_engines_end(captured: vectors.Captured) -> None:
    events = split(captured.body, 1 << 20, captured.n)
    marks = [mark for _, mark in events]
    native = "b08_native" in captured.name
    has_done = captured.whole and not captured.name.startswith("transformers") and not native
    assert marks.count(Mark.DONE) == has_done
    assert (marks[-1] == Mark.DONE) == has_done
    choices = 2 if "two_prompts" in captured.name else captured.n
    failed = Mark.ERROR in marks
    finishes = 0 if failed or native or not captured.whole else choices
    assert sum(bool(mark & Mark.FINISH) for mark in marks) == finishes


def test_keep_alives_of_a_queueing_engine_never_pass() -> None:
    stream = vectors.stream("vllm/f01_keepalive_queued.sse")
    assert b": keep-alive\n\n" in stream
    out = b"".join(data for data, _ in split(stream, 64, 1))
    assert b"keep-alive" not in out
    assert out.endswith(DONE)
    assert [data for data, _ in split(b":\n\n" + DELTA + b":\n\n", 4, 1)] == [DELTA], "llama-server's ping"


def test_an_ordinary_event_is_one_batch_without_events() -> None:
    batch = EventSplitter(1 << 20).push(DELTA)
    assert batch is not None
    assert (batch.data, batch.count, batch.marks, batch.events) == (DELTA, 1, 0, ())


def test_ordinary_events_of_one_read_stay_joined() -> None:
    batch = EventSplitter(1 << 20).push(DELTA * 3)
    assert batch is not None
    assert (batch.data, batch.count, batch.events) == (DELTA * 3, 3, ())
    assert [event.data for event in batch.split()] == [DELTA] * 3


def test_a_mark_anywhere_lists_all_events_of_the_read() -> None:
    batch = EventSplitter(1 << 20).push(DELTA + FINISH + DONE)
    assert batch is not None
    assert [event.marks for event in batch.events] == [0, Mark.FINISH, Mark.DONE]
    assert batch.marks == Mark.FINISH | Mark.DONE


def test_with_several_choices_one_null_does_not_hide_a_finish() -> None:
    event = (
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"},'
        b'{"index":1,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    )
    batch = EventSplitter(1 << 20, one_choice=False).push(event)
    assert batch is not None
    assert batch.marks == Mark.FINISH


def test_half_an_event_is_held_and_counted() -> None:
    splitter = EventSplitter(100)
    assert splitter.push(DELTA[:20]) is None
    assert splitter.held_bytes == 20
    batch = splitter.push(DELTA[20:] + b"data: h")
    assert batch is not None
    assert batch.data == DELTA
    assert splitter.held_bytes == len(b"data: h")


def test_utf8_is_never_decoded_wherever_it_is_cut() -> None:
    event = 'data: {"choices":[{"delta":{"content":"日本 🦊"},"finish_reason":null}]}\n\n'.encode()
    for at in range(1, len(event)):
        splitter = EventSplitter(1 << 20)
        assert splitter.push(event[:at]) is None
        batch = splitter.push(event[at:])
        assert batch is not None
        assert batch.data == event
    broken = DELTA.replace(b'"a"', b'"\xff\xfe"')
    batch = EventSplitter(1 << 20).push(broken)
    assert batch is not None
    assert batch.data == broken


def test_the_error_names_the_setting_and_the_figure() -> None:
    with pytest.raises(EventTooLargeError, match=r"max_event_bytes = 10$") as caught:
        EventSplitter(10).push(b"data: 0123456789")
    assert caught.value.limit_bytes == 10


def test_an_event_over_the_bound_is_refused_even_if_it_came_whole() -> None:
    with pytest.raises(EventTooLargeError):
        EventSplitter(len(DELTA) - 1).push(DELTA)
    assert EventSplitter(len(DELTA)).push(DELTA) is not None


def test_a_byte_order_mark_is_dropped_at_the_start_only() -> None:
    splitter = EventSplitter(1 << 20)
    assert splitter.push(b"\xef\xbb") is None
    batch = splitter.push(b"\xbf" + DELTA)
    assert batch is not None
    assert batch.data == DELTA
    late = EventSplitter(1 << 20)
    assert late.push(DELTA) is not None
    assert late.push(b"\xef\xbb\xbf" + DELTA) is None, "a field of another name"


def test_heartbeats_end_in_one_newline_where_ids_are_on() -> None:
    assert heartbeat(ids=False) == b": ping\n\n"
    assert heartbeat(ids=True) == b": ping\n"
    for ping in (heartbeat(ids=False), heartbeat(ids=True) + b"\n"):
        assert EventSplitter(100).push(ping) is None
    assert CONTENT_TYPE == b"text/event-stream"
