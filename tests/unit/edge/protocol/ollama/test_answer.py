"""Ollama's lines become OpenAI's events: the end told, never made up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.protocol.malformed import MalformedError
from edge.protocol.ollama.answer import EventTranslator, refusal, whole
from streamkit.wire.events import Batch, Event, Mark
from streamkit.wire.openai import DONE, marks_of, payload_of
from streamkit.wire.sse import EventTooLargeError

BOUND = 1 << 16


def translator(*, chat: bool = True, usage: bool = False, bound: int = BOUND) -> EventTranslator:
    return EventTranslator(chat=chat, id_="chatcmpl-1", created=5, model="m", usage=usage, max_line_bytes=bound)


def line(content: str = "", *, done: bool = False, **members: Any) -> bytes:
    message = {"role": "assistant", "content": content, **members.pop("message", {})}
    return json.dumps({"model": "m", "created_at": "t", "message": message, "done": done, **members}).encode() + b"\n"


def last(reason: str | None = "stop", **members: Any) -> bytes:
    told = {} if reason is None else {"done_reason": reason}
    return line(done=True, **told, prompt_eval_count=3, eval_count=2, **members)


def events_of(*chunks: bytes, **how: Any) -> list[Event]:
    one = translator(**how)
    batches = [batch for chunk in chunks if (batch := one.push(chunk)) is not None]
    for batch in batches:
        check(batch)
    return [event for batch in batches for event in batch.split()]


def check(batch: Batch) -> None:
    """A batch keeps the contract of `EventSplitter`'s: joined bytes, count, marks as a scan would find them."""
    events = batch.split()
    assert batch.count == len(events)
    assert batch.data == b"".join(event.data for event in events)
    for event in events:
        assert event.data.startswith(b"data: ")
        assert event.data.endswith(b"\n\n")
        assert marks_of(event.data) == event.marks


def read(events: list[Event]) -> list[Any]:
    return [json.loads(payload_of(event.data)) for event in events if not event.marks & Mark.DONE]


def test_a_whole_stream():
    events = events_of(line("Hel"), line("lo") + last(), usage=True)
    assert [event.marks for event in events] == [0, 0, 0, Mark.FINISH, Mark.USAGE, Mark.DONE]
    assert events[-1].data == DONE
    role, hel, lo, finish, usage = read(events)
    assert role["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert [one["choices"][0]["delta"] for one in (hel, lo, finish)] == [{"content": "Hel"}, {"content": "lo"}, {}]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert {(one["id"], one["created"], one["model"]) for one in read(events)} == {("chatcmpl-1", 5, "m")}


def test_no_usage_unless_wanted():
    assert not any(event.marks & Mark.USAGE for event in events_of(line("a"), last()))


def test_length():
    assert read(events_of(line("a"), last("length")))[-1]["choices"][0]["finish_reason"] == "length"


def test_thinking_and_tool_calls():
    call = {"function": {"name": "f", "arguments": {"x": 1.0, "y": "ü"}}}
    events = read(
        events_of(
            line(message={"thinking": "hm"}),
            line(message={"tool_calls": [call, {"id": "given", **call}]}),
            line(message={"tool_calls": [call]}),
            last(),
        )
    )
    deltas = [one["choices"][0]["delta"] for one in events]
    assert deltas[1] == {"reasoning": "hm"}
    first, second = deltas[2]["tool_calls"]
    assert first["function"] == {"name": "f", "arguments": '{"x": 1.0, "y": "\\u00fc"}'}
    assert first["type"] == "function"
    assert second["id"] == "given"
    assert first["id"].startswith("call_")
    assert [one["index"] for delta in deltas for one in delta.get("tool_calls", ())] == [0, 1, 2]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_last_line_without_a_reason_gets_none():
    events = events_of(line("a"), last(None))
    assert not any(event.marks & Mark.FINISH for event in events)


@pytest.mark.parametrize("reason", ["load", "unload", "repeat"])
def test_an_end_that_is_no_answer_is_an_error(reason):
    events = events_of(line("a"), last(reason))
    assert events[-1].marks == Mark.ERROR
    assert reason in read(events)[-1]["error"]["message"]


def test_an_error_line_ends_it_and_nothing_after_it_counts():
    events = events_of(line("a"), b'{"error":"llama runner process has terminated"}\n' + line("b") + last())
    assert [event.marks for event in events] == [0, 0, Mark.ERROR]
    assert read(events)[-1]["error"]["message"] == "llama runner process has terminated"


def test_nothing_after_the_last_line_counts():
    assert events_of(line("a"), last() + line("b"))[-1].data == DONE


def test_a_half_line_at_the_end_is_nothing():
    assert [event.marks for event in events_of(line("a") + last()[:-1])] == [0, 0]


def test_carriage_returns_and_empty_lines():
    events = events_of(b"\r\n\n" + (line("a") + last()).replace(b"\n", b"\r\n"))
    assert [event.marks for event in events] == [0, 0, Mark.FINISH, Mark.DONE]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"<html>\n", "not valid JSON"),
        (b"[1]\n", "another shape"),
        (b'{"message":{"content":5},"done":false}\n', "another shape"),
        (b'{"message":{"role":"assistant","content":"\xc3"},"done":false}\n', "not valid JSON"),
        (b'{"response":"text","done":false}\n', "without `message`"),
        (b"{}\n", "without `message`"),
        (b'{"message":{"content":"\\ud83d"},"done":false}\n', "not valid JSON"),
        (b"[" * 100_000 + b"\n", "larger than"),
        (b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":' + b"[" * 50_000 + b"\n", "not valid JSON"),
    ],
    ids=["html", "list", "type", "half a character", "other route", "empty", "half a surrogate", "long", "deep"],
)
def test_lines_that_are_not_ollamas(bad, words):
    with pytest.raises((MalformedError, EventTooLargeError), match=words):
        events_of(line("a"), bad)


def test_what_was_whole_before_a_bad_line_is_not_lost_with_it():
    with pytest.raises(MalformedError) as caught:
        translator().push(line("a") + line("b") + b"<html>\n")
    assert caught.value.before is not None
    check(caught.value.before)
    assert [one["choices"][0]["delta"].get("content") for one in read(list(caught.value.before.split()))] == [
        "",
        "a",
        "b",
    ]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_over_the_bound_is_refused_when_it_grows(size):
    one = translator(bound=4096)
    data = line("x" * 5000)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    with pytest.raises(EventTooLargeError):
        list(map(one.push, chunks))


def test_text_completions():
    lines = [b'{"model":"m","response":"Hel","done":false}\n', b'{"model":"m","response":"","done":true,']
    events = events_of(*lines, b'"done_reason":"stop","prompt_eval_count":1,"eval_count":1}\n', chat=False)
    assert [event.marks for event in events] == [0, Mark.FINISH, Mark.DONE]
    first, finish = read(events)
    assert first["object"] == "text_completion"
    assert first["choices"] == [{"index": 0, "text": "Hel", "logprobs": None, "finish_reason": None}]
    assert finish["choices"][0] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}


def test_a_whole_answer():
    body = whole(line("Hello", done=True, done_reason="stop", eval_count=2), chat=True, id_="i", created=5, model="m")
    found = json.loads(body)
    assert found["object"] == "chat.completion"
    assert found["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "logprobs": None, "finish_reason": "stop"}
    ]
    assert found["usage"] == {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2}


@pytest.mark.parametrize("body", [b"", b"{}", line("a"), last(None), last("unload"), b'{"error":"x"}', b"\xff"])
def test_a_whole_answer_that_does_not_say_why_it_ended_is_malformed(body):
    with pytest.raises(MalformedError):
        whole(body, chat=True, id_="i", created=5, model="m")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b'{"error":"model \'x\' not found"}', (404, "not_found_error", "model 'x' not found")),
        (503, b'{"error":"server busy"}', (503, "server_error", "server busy")),
        (400, b'{"error":"bad options"}', (400, "invalid_request_error", "bad options")),
        (499, b"", (502, "server_error", "Ollama refused with HTTP 499")),
        (500, b"<html>", (500, "server_error", "Ollama refused with HTTP 500")),
    ],
)
def test_refusals_become_envelopes(status, body, told):
    found, envelope = refusal(status, body)
    error = json.loads(envelope)["error"]
    assert (found, error["type"], error["message"]) == told
