"""Two halves of one answer: what can be continued, what the second engine is asked, and how its half is joined."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.protocol.seam import Seam, unfit
from tests.unit.streamkit.wire import vectors

BODY = b'{"model":"m", "messages": [{"role":"user","content":"hi"} ], "stream":true}'


def body(**members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}).encode()


def event(text: str | None, number: int = 1, **members: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **members}
    chunk = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": 100 + number,
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def captured(name: str) -> bytes:
    return vectors.stream(f"{name}.sse")


def text_of(events: bytes) -> str:
    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize(
    ("members", "at_fault"),
    [
        ({}, None),
        ({"max_tokens": 5, "seed": 1, "temperature": 0.5, "stream_options": {"include_usage": True}}, None),
        ({"n": 1, "stop": [], "tools": None, "logprobs": False, "response_format": {"type": "text"}}, None),
        ({"n": 2}, "n"),
        ({"stop": "x"}, "stop"),
        ({"tools": [{}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs"),
        ({"stream_options": {"continuous_usage_stats": True}}, "stream_options"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
    ],
)
def test_what_an_answer_can_be_continued_for(members, at_fault):
    assert unfit(body(**members)) == at_fault


def test_the_request_for_the_second_half_differs_in_nothing_else():
    seam = Seam(1 << 16)
    seam.saw(event("", 1))
    seam.saw(event('say "', 1) + event("\u00e9\u4e16\n", 1))
    assert seam.request(BODY) == (
        b'{"continue_final_message":true,"add_generation_prompt":false,"model":"m", "messages": '
        b'[{"role":"user","content":"hi"} ,{"role":"assistant","content":"say \\"\xc3\xa9\xe4\xb8\x96\\n"}], '
        b'"stream":true}'
    )
    assert seam.sent == 2
    assert seam.text == 'say "\u00e9\u4e16\n'


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"max_tokens": 10}, {"max_tokens": 7}),
        ({"max_completion_tokens": 4, "max_tokens": None}, {"max_completion_tokens": 1, "max_tokens": None}),
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"max_completion_tokens": 6, "max_tokens": 2}),
        ({"max_tokens": 3}, None),
        ({"max_tokens": 2}, None),
    ],
)
def test_the_limit_is_lowered_by_what_was_sent(asked, left):
    seam = Seam(1 << 16)
    seam.saw(event("a") + event("b") + event("c"))
    request = seam.request(body(**asked))
    if left is None:
        assert request is None, "nothing is left to ask for"
    else:
        assert request is not None
        assert {name: json.loads(request)[name] for name in asked} == left


def test_a_seam_over_captured_bytes_of_two_engines():
    for first, second in [
        ("vllm/a01_stream", "vllm/a12_stream_prefill"),
        ("vllm/a01_stream", "llamacpp/a12_stream_prefill_assistant_last"),
        ("llamacpp/a01_stream", "vllm/a12_stream_prefill"),
    ]:
        half = b"\n\n".join(captured(first).split(b"\n\n")[:6]) + b"\n\n"
        seam = Seam(1 << 16)
        seam.saw(half)
        assert seam.request(BODY) is not None
        assert seam.text == text_of(half)
        seam.begin()
        rest = captured(second)
        out = seam.join(rest)
        named = json.loads(_payloads(half)[0])
        ids = {(one["id"], one["created"]) for one in map(json.loads, _payloads(out))}
        assert ids == {(named["id"], named["created"])}
        assert text_of(out) == text_of(rest)
        assert out.count(b"\n\n") == rest.count(b"\n\n")
        seam.saw(out)
        seam.read()
        assert seam.text == text_of(half) + text_of(rest)


def _payloads(events: bytes) -> list[bytes]:
    return [line[6:] for line in events.splitlines() if line.startswith(b"data: {")]


def test_what_looks_like_an_id_inside_a_text_is_left_alone():
    seam = Seam(1 << 16)
    seam.saw(event("x", 1))
    seam.request(BODY)
    seam.begin()
    trap = 'He said "id":"chatcmpl-2" and "created":102 and "usage":{'
    out = seam.join(event(trap, 2))
    assert out == event(trap, 1)


def test_a_second_role_is_dropped_from_the_first_event_only():
    seam = Seam(1 << 16)
    seam.saw(event("x"))
    seam.request(BODY)
    seam.begin()
    out = seam.join(event("y", 2, delta={"role": "assistant", "content": "y"}))
    assert out == event("y", 1)


def test_a_third_half_keeps_the_first_ones_name_and_counts_all_before():
    seam = Seam(1 << 16)
    seam.saw(event("a") + event("b"))
    seam.request(BODY)
    seam.begin()
    seam.saw(seam.join(event("c", 2)))
    request = seam.request(body(max_tokens=10))
    assert request is not None
    assert json.loads(request)["messages"][-1] == {"role": "assistant", "content": "abc"}
    assert json.loads(request)["max_tokens"] == 7
    seam.begin()
    assert seam.joined == 3
    assert seam.join(event("d", 3)) == event("d", 1)
    usage = {"prompt_tokens": 13, "total_tokens": 17, "completion_tokens": 4, "prompt_tokens_details": None}
    out = seam.join(b'data: {"id":"chatcmpl-3","choices":[],"usage":' + json.dumps(usage).encode() + b"}\n\n")
    told = json.loads(out[6:])
    assert told["usage"] == {**usage, "prompt_tokens": 10, "completion_tokens": 7}
    assert told["id"] == "chatcmpl-1"


@pytest.mark.parametrize(
    "events",
    [
        event(None, delta={"tool_calls": [{"index": 0}]}),
        event(None, delta={"reasoning_content": "hm"}),
        event("x", logprobs={"content": []}),
        event(None, delta={"refusal": "no"}),
        b"data: not json\n\n",
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":7}}]}\n\n',
        b'data: {"choices":7}\n\n',
        event("role only", delta={"role": "assistant", "content": ""}),
    ],
)
def test_anything_but_text_cannot_be_continued(events):
    seam = Seam(1 << 16)
    seam.saw(events)
    assert seam.request(BODY) is None


def test_memory_is_bounded_and_let_go_beyond_the_bound():
    seam = Seam(1_000)
    most = 0
    for _ in range(5_000):
        seam.saw(event("x"))
        most = max(most, seam.held_bytes)
    assert most < 32 * 1024 + 1_000 + 500
    assert not seam.possible
    assert seam.held_bytes == 0
    assert seam.request(BODY) is None


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\r"])
def test_other_line_ends_are_read_too(end):
    seam = Seam(1 << 16)
    seam.saw((event("a") + event("b")).replace(b"\n\n", end))
    assert seam.request(BODY) is not None
    assert seam.text == "ab"
