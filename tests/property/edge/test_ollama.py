"""Ollama's lines, as the simulator writes them, cut anywhere: the text comes out exactly, and so does the end."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.malformed import MalformedError
from edge.protocol.ollama.answer import EventTranslator, whole
from simulator.frames import Usage
from simulator.ollama.voice import Lines, Native
from streamkit.wire.events import Event, Mark
from streamkit.wire.openai import payload_of
from streamkit.wire.sse import EventTooLargeError
from tests.property.wire.streams import cuts, pieces

BOUND = 1 << 20
_CLOCK = re.compile(rb'"(created_at|total_duration|eval_duration)":(?:"[^"]*"|\d+)')
#: Everything that JSON text can hold; a lone surrogate is no text.
TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20), max_size=12)


def asked(*, chat: bool) -> Native:
    return Native(chat=chat, model="m", prompts=[], stream=True, max_tokens=[])


def lines_of(texts: list[str], reason: str | None, *, chat: bool) -> bytes:
    lines = Lines(asked(chat=chat), Usage(3, len(texts)))
    said = [lines.piece(0, text) for text in texts]
    said.append(lines.finish(0, reason))
    # Without the clock, so that the same draw is the same stream.
    return _CLOCK.sub(rb'"\1":0', b"".join([*said, lines.done]))


def translated(stream: bytes, at: list[int], *, chat: bool) -> list[Event]:
    one = EventTranslator(chat=chat, id_="i", created=1, model="m", usage=True, max_line_bytes=BOUND)
    batches = [batch for piece in pieces(stream, at) if (batch := one.push(piece)) is not None]
    return [event for batch in batches for event in batch.split()]


def said(events: list[Event]) -> tuple[str, list[str]]:
    """Return the text and the finish reasons."""
    text, reasons = "", []
    for event in events:
        if event.marks & Mark.DONE:
            continue
        for choice in json.loads(payload_of(event.data))["choices"]:
            text += choice["text"] if "text" in choice else choice["delta"].get("content") or ""
            reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
    return text, reasons


@settings(max_examples=150)
@given(st.data(), TEXTS, st.booleans(), st.sampled_from(["stop", "length", None]))
def test_any_text_cut_anywhere_comes_out_exactly(
    data: st.DataObject, texts: list[str], chat: bool, reason: str | None
) -> None:
    stream = lines_of(texts, reason, chat=chat)
    events = translated(stream, data.draw(cuts(len(stream))), chat=chat)
    assert said(events) == ("".join(texts), [reason] if reason else [])
    assert events[-1].marks == Mark.DONE


@settings(max_examples=100)
@given(TEXTS, st.booleans(), st.data())
def test_a_stream_that_breaks_off_is_never_finished(texts: list[str], chat: bool, data: st.DataObject) -> None:
    stream = lines_of(texts, "stop", chat=chat)
    cut = data.draw(st.integers(0, len(stream) - 1))
    events = translated(stream[:cut], [], chat=chat)
    assert "".join(texts).startswith(said(events)[0])
    assert not any(event.marks for event in events)


@settings(max_examples=200)
@given(st.data(), st.binary(max_size=200), st.booleans())
def test_any_bytes_are_events_or_a_refusal(data: st.DataObject, noise: bytes, chat: bool) -> None:
    stream = noise + lines_of(["a"], "stop", chat=chat)
    try:
        events = translated(stream, data.draw(cuts(len(stream))), chat=chat)
    except (MalformedError, EventTooLargeError):
        return
    for event in events:
        assert event.marks & Mark.DONE or json.loads(payload_of(event.data))


@settings(max_examples=50)
@given(TEXTS, st.booleans())
def test_a_whole_answer_says_the_same(texts: list[str], chat: bool) -> None:
    text = "".join(texts)
    one = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    body = json.dumps({"model": "m", **one, "done": True, "done_reason": "stop"}).encode()
    choice = json.loads(whole(body, chat=chat, id_="i", created=1, model="m"))["choices"][0]
    assert (choice["message"]["content"] if chat else choice["text"]) == text
