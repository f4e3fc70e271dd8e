"""EventSplitter against the slow reference: any stream, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.wire.events import Batch
from streamkit.wire.sse import EventSplitter, EventTooLargeError, heartbeat, split_events, whole_bytes
from tests.property.wire.reference import events_of, field_of, flat, lines_of
from tests.property.wire.streams import cuts, pieces, streams

BOUND = 1 << 20


def split(stream: bytes, at: list[int], *, n: int = 1, bound: int = BOUND) -> tuple[list[Batch], EventSplitter]:
    splitter = EventSplitter(bound, one_choice=n == 1)
    found = []
    for piece in pieces(stream, at):
        batch = splitter.push(piece)
        assert splitter.held_bytes <= bound
        if batch is not None:
            found.append(batch)
    return found, splitter


@settings(max_examples=250)
@given(st.data())
def test_any_cut_gives_the_events_of_the_grammar(data: st.DataObject) -> None:
    stream, n = data.draw(streams())
    at = data.draw(cuts(len(stream)))
    assert flat(split(stream, at, n=n)[0]) == events_of(stream)


@settings(max_examples=30)
@given(streams())
def test_one_cut_at_every_place_gives_the_same_events(made: tuple[bytes, int]) -> None:
    stream, n = made
    whole = flat(split(stream, [], n=n)[0])
    for at in range(len(stream)):
        assert flat(split(stream, [at], n=n)[0]) == whole


@settings(max_examples=100)
@given(st.data())
def test_what_leaves_is_whole_events_and_no_comment(data: st.DataObject) -> None:
    stream, n = data.draw(streams())
    for batch in split(stream, data.draw(cuts(len(stream))), n=n)[0]:
        for event in batch.split():
            *lines, last = [text for text, _ in lines_of(event.data + b"x")]
            assert last == b""
            assert all(lines), "a blank line ends an event, and only stands there"
            assert not [line for line in lines if line[:1] == b":" or field_of(line) in (b"id", b"retry")]
            assert b"data" in map(field_of, lines)


@settings(max_examples=100)
@given(
    st.integers(64, 300),
    st.sampled_from(
        [b"data: %b\n\n", b'data: {"finish_reason":null,"x":"%b"}\n\n', b"data: %b\r\n\r\n", b"id: 1\ndata: %b\n\n"]
    ),
    st.sampled_from([b"", b"\n", b"data: first\n\n"]),
    st.data(),
)
def test_the_bound_is_exact_wherever_the_event_is_cut(
    bound: int, form: bytes, before: bytes, data: st.DataObject
) -> None:
    room = bound - len(form % b"")
    for extra in (0, 1):
        stream = before + form % (b"a" * (room + extra))
        at = data.draw(cuts(len(stream)))
        if extra:
            with pytest.raises(EventTooLargeError) as caught:
                split(stream, at, bound=bound)
            assert caught.value.limit_bytes == bound
        else:
            found, splitter = split(stream, at, bound=bound)
            assert flat(found) == events_of(stream)
            assert splitter.held_bytes == 0


@settings(max_examples=60)
@given(st.integers(8, 64), st.data())
def test_an_endless_event_is_refused_before_more_than_the_bound_is_held(bound: int, data: st.DataObject) -> None:
    splitter = EventSplitter(bound)
    taken = 0
    while taken + (size := data.draw(st.integers(1, 16))) <= bound:
        assert splitter.push(b"a" * size) is None
        taken += size
        assert splitter.held_bytes == taken
    with pytest.raises(EventTooLargeError):
        splitter.push(b"a" * size)


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([b"data: a\r\r", b"data: b\n\n", b"data: c\r\n\r\n", b"data: d\n\r"]), max_size=6),
    st.data(),
)
def test_ways_to_end_a_line_may_be_mixed(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts) + b": end\n"
    assert flat(split(stream, data.draw(cuts(len(stream))))[0]) == events_of(stream)


@settings(max_examples=150)
@given(st.data())
def test_a_batch_comes_apart_into_its_events(data: st.DataObject) -> None:
    stream, n = data.draw(streams())
    found, _ = split(stream, data.draw(cuts(len(stream))), n=n)
    for batch in found:
        assert split_events(batch.data) == [event.data for event in batch.split()]


_NUMBERED = st.lists(
    st.sampled_from([b"data: {}\n\n", b"data: \xe2\x98\x83\r\n\r\n", b"event: x\ndata: 1\ndata: 2\n\n", b""]),
    max_size=8,
)


@given(_NUMBERED, st.data())
def test_what_a_peer_sends_passes_whole_and_untouched_wherever_it_is_cut(
    events: list[bytes], data: st.DataObject
) -> None:
    ping = heartbeat(ids=True)
    lines = [b"id: %d\n%b" % (number, event) if event else ping for number, event in enumerate(events, 1)]
    stream, passed, tail = b"".join(lines), b"", b""
    ends, end = {0}, 0
    for line in lines:
        end += len(line)
        ends.add(end)
    for piece in pieces(stream, data.draw(cuts(len(stream)))):
        tail += piece
        whole = whole_bytes(tail)
        passed, tail = passed + tail[:whole], tail[whole:]
        assert len(passed) in ends
    assert passed == stream or tail.endswith(b"\r\n"), "a CR LF at the very end waits for the next byte"
