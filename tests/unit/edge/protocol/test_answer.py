"""Judging an engine's stream event by event; the relay's tests see the same from outside."""

from __future__ import annotations

import json

import pytest

from edge.protocol.answer import EngineAnswer, opens
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.events import Event
from streamkit.wire.openai import Usage
from streamkit.wire.sse import EventSplitter
from tests.unit.edge.scripted import DONE, ERROR, ROLE, USAGE, delta, finish
from tests.unit.streamkit.wire import vectors


def events(*data: bytes, n: int = 1) -> tuple[Event, ...]:
    batch = EventSplitter(1 << 20, one_choice=n == 1).push(b"".join(data))
    return batch.split() if batch is not None else ()


def answer(*, choices: int = 1, strip_usage: bool = False, sends_done: bool = True) -> EngineAnswer:
    return EngineAnswer("gpu-1", choices=choices, strip_usage=strip_usage, sends_done=sends_done)


@pytest.mark.parametrize(
    ("data", "first"),
    [(ROLE, False), (USAGE, False), (DONE, False), (delta(), True), (finish(), True), (finish("error"), True)],
)
def test_what_opens_an_answer(data: bytes, first: bool) -> None:
    (event,) = events(data)
    assert opens(event) is first


@pytest.mark.parametrize("captured", [row for row in vectors.streams() if row.whole], ids=lambda row: row.name)
def test_captured_streams_are_judged_as_their_engines_meant_them(captured: vectors.Captured) -> None:
    native = "b08_native" in captured.name
    judged = answer(choices=captured.n, sends_done=not captured.name.startswith("transformers"))
    out = judged.take(events(captured.body, n=captured.n))
    rest = judged.end(clean=True)
    if "bad_schema" in captured.name:
        assert judged.error is not None
        assert judged.frame is not None
        assert json.loads(judged.frame[5:])["error"]["code"] == 400
    elif native:
        assert judged.error is not None, "llama-server's own format is not OpenAI's"
    else:
        assert judged.error is None
        assert judged.done
        assert b"".join(out) + rest == b"".join(event.data for event in events(captured.body, n=captured.n)) + rest
        assert (b"".join(out) + rest).endswith(DONE)


def test_usage_is_kept_and_stripped_where_it_was_forced() -> None:
    for strip in (True, False):
        judged = answer(strip_usage=strip)
        out = judged.take(events(delta(), finish(), USAGE, DONE))
        assert (USAGE in out) is not strip
        assert judged.usage == Usage(3, 4, 7)


def test_usage_in_the_finish_chunk_counts_until_a_usage_chunk_says_more() -> None:
    judged = answer()
    last = finish().replace(b"}]}", b'}],"usage":{"prompt_tokens":4,"completion_tokens":5,"total_tokens":9}}')
    judged.take(events(delta(), last))
    assert judged.usage == Usage(4, 5, 9)
    judged.take(events(USAGE))
    assert judged.usage is not None
    assert judged.usage != Usage(4, 5, 9)


def test_it_is_text_complete_once_every_choice_is_finished() -> None:
    judged = answer(choices=2)
    judged.take(events(delta(), finish(index=0), n=2))
    assert not judged.text_complete
    judged.take(events(finish(index=1), n=2))
    assert judged.text_complete
    assert not judged.done


@pytest.mark.parametrize("sends_done", [True, False])
def test_done_without_a_finish_reason_is_no_end(sends_done: bool) -> None:
    judged = answer(sends_done=sends_done)
    assert judged.take(events(delta(), DONE)) == [delta()]
    assert judged.error is not None
    assert judged.error.code is Code.STREAM_BROKEN
    assert "gpu-1" in judged.error.message
    assert judged.end(clean=True) == b""


def test_nothing_counts_after_done_or_after_an_error_frame() -> None:
    for end in (DONE, ERROR):
        judged = answer()
        out = judged.take(events(delta(), finish(), end, delta("late"), USAGE))
        assert delta("late") not in out
        assert judged.take(events(delta("later"), DONE)) == []
        assert judged.usage is None


def test_an_error_frame_is_kept_for_whoever_ends_the_stream() -> None:
    judged = answer()
    assert judged.take(events(delta(), ERROR, DONE)) == [delta()]
    assert judged.frame == ERROR
    assert judged.error is not None
    assert "boom" in judged.error.message


def test_a_finish_reason_of_error_goes_out_and_done_does_not() -> None:
    judged = answer()
    assert judged.take(events(delta(), finish("error"), DONE)) == [delta(), finish("error")]
    assert judged.error is not None
    assert judged.frame is None
    assert judged.end(clean=True) == b""
    assert judged.error is not None


@pytest.mark.parametrize(
    ("sends_done", "finished", "clean", "whole"),
    [
        (True, True, True, False),
        (True, True, False, False),
        (False, True, True, True),
        (False, False, True, False),
        (False, True, False, False),
    ],
)
def test_an_end_without_done(sends_done: bool, finished: bool, clean: bool, whole: bool) -> None:
    judged = answer(sends_done=sends_done)
    judged.take(events(delta(), *([finish()] if finished else [])))
    assert judged.end(clean=clean) == (DONE if whole else b"")
    assert (judged.error is None) is whole


def test_the_connections_own_words_are_kept() -> None:
    broke = HeadraceError(Code.EVENT_TOO_LARGE, "too large")
    judged = answer()
    judged.take(events(delta()))
    judged.end(clean=False, error=broke)
    assert judged.error is broke
