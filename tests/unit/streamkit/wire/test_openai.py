from __future__ import annotations

import json

import pytest

from streamkit.wire.events import Mark
from streamkit.wire.openai import DONE, Usage, empty_delta, error_of, marks_of, payload_of, usage_of
from tests.unit.streamkit.wire import vectors


def data_events(name: str) -> list[bytes]:
    return [block + b"\n\n" for block in vectors.stream(name).split(b"\n\n") if block.startswith(b"data:")]


@pytest.mark.parametrize(
    ("event", "marks"),
    [
        (DONE, Mark.DONE),
        (b"data:[DONE]\n\n", Mark.DONE),
        (b"data: [DONE] \r\n\r\n", Mark.DONE),
        (b"event: done\ndata: [DONE]\n\n", Mark.DONE),
        (b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n', 0),
        (b'data: {"choices":[{"finish_reason" : "stop"}]}\n\n', Mark.FINISH),
        (b'data: {"choices":[{"finish_reason":""}]}\n\n', 0),
        (b'data: {"choices":[{"finish_reason":"error"}]}\n\n', Mark.FINISH | Mark.ERROR),
        (b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\":\\"stop\\""}}]}\n\n', 0),
        (b'data: {"choices":[{"delta":{"content":"finish_reason"}}]}\n\n', 0),
        (b'data: {"error": {"message":"x"}}\n\n', Mark.ERROR),
        (b'data: {"object":"error","error":"x"}\n\n', Mark.ERROR),
        (b'event: error\ndata: {"message":"x"}\n\n', Mark.ERROR),
        (b'data: {"choices":[{"delta":{}}],"error":null}\n\n', 0),
        (b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', Mark.USAGE),
        (b'data: {"choices":null,"usage":{"prompt_tokens":1}}\n\n', Mark.USAGE),
        (b'data: {"usage":{"prompt_tokens":1}}\n\n', Mark.USAGE),
        (b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\n\n', 0),
        (b'data: {\ndata: "choices":[\ndata: {"finish_reason":\ndata: "stop"}]}\n\n', Mark.FINISH),
    ],
)
def test_marks(event: bytes, marks: int) -> None:
    assert marks_of(event) == marks


@pytest.mark.parametrize(
    "name",
    [row.name for row in vectors.streams() if row.name.split("/")[1][0] == "a" and row.n == 1],
)
def test_role_chunks_of_engines_are_empty_and_their_tokens_are_not(name: str) -> None:
    events = data_events(name)
    chunks = [json.loads(event[5:]) if b"[DONE]" not in event else {} for event in events]
    for event, chunk in zip(events, chunks, strict=True):
        choices = chunk.get("choices") or []
        says = [value for choice in choices for key, value in choice["delta"].items() if key != "role" and value]
        assert empty_delta(event) == (bool(choices) and not says)
    assert empty_delta(events[0]), "the engine begins with a bare role"


@pytest.mark.parametrize(
    ("delta", "empty"),
    [
        (b"{}", True),
        (b'{"role":"assistant","content":""}', True),
        (b'{"role":"assistant","content":null}', True),
        (b'{ "role" : "assistant" , "content" : null , "tool_calls" : [ ] , "reasoning" : "" }', True),
        (b'{"content":"a"}', False),
        (b'{"content":null,"reasoning_content":"hm"}', False),
        (b'{"content":null,"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}', False),
        (b'{"content":" "}', False),
        (b'{"content":"\\"}"}', False),
        (b"null", False),
    ],
)
def test_empty_delta(delta: bytes, empty: bool) -> None:
    event = b'data: {"choices":[{"index":0,"delta":%b,"finish_reason":null}]}\n\n' % delta
    assert empty_delta(event) is empty


def test_a_delta_is_empty_only_if_it_is_so_in_every_choice() -> None:
    bare = b'{"index":0,"delta":{"role":"assistant","content":""}}'
    full = b'{"index":1,"delta":{"content":"a"}}'
    assert empty_delta(b'data: {"choices":[%b,%b]}\n\n' % (bare, bare))
    assert not empty_delta(b'data: {"choices":[%b,%b]}\n\n' % (bare, full))
    assert not empty_delta(b'data: {"choices":[%b,%b]}\n\n' % (full, bare))


def test_text_completions_are_empty_by_their_text() -> None:
    assert empty_delta(b'data: {"choices":[{"index":0,"text":""}]}\n\n')
    assert not empty_delta(b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
    assert not empty_delta(b'data: {"choices":[{"text":""},{"text":"a"}]}\n\n')


def test_what_is_no_chunk_at_all_is_not_called_empty() -> None:
    assert not empty_delta(b'data: {"content":"a","stop":false}\n\n'), "llama-server's native stream"
    assert not empty_delta(b'data: {"choices":[]}\n\n')


def test_a_delta_of_blanks_is_judged_in_linear_time() -> None:
    event = b'data: {"choices":[{"delta":{' + b'"a":null' + b" " * 200_000 + b'"b":1}}]}\n\n'
    assert not empty_delta(event)


@pytest.mark.parametrize("refusal", vectors.refusals(), ids=lambda refusal: refusal.name)
def test_captured_errors_are_read_in_every_shape(refusal: vectors.Refusal) -> None:
    found = error_of(refusal.body, event=False)
    if refusal.content_type.startswith("text/plain"):
        assert found is None
        return
    body = json.loads(refusal.body)
    error = body.get("error", body.get("detail"))
    assert found is not None
    if isinstance(error, dict):
        assert (found.message, found.code) == (error["message"], error["code"])
        assert found.code == refusal.status
    else:
        assert found.message == str(error)
        assert found.code is None


def test_an_error_frame_is_read_like_a_body() -> None:
    (frame, done) = data_events("vllm/c08b_bad_schema_stream.sse")
    found = error_of(frame, event=True)
    assert found is not None
    assert found.code == 400
    assert found.message.startswith("Failed to transform json schema")
    assert marks_of(frame) == Mark.ERROR
    assert marks_of(done) == Mark.DONE


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"object":"error","message":"old vLLM","code":400}', "old vLLM", None),
        (b'{"error":{"message":null,"code":"429"}}', "", 429),
        (b'{"error":{"code":"rate_limit"}}', "", None),
        (b'{"error":["odd"]}', "['odd']", None),
        (b'{"detail":[{"msg":"x"}]}', "[{'msg': 'x'}]", None),
    ],
)
def test_other_shapes_of_errors(body: bytes, message: str, code: int | None) -> None:
    found = error_of(body, event=False)
    assert found is not None
    assert (found.message, found.code) == (message, code)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"text"', b"{}", b'{"error":null}', b"\xff", b"[" * 100_000]
)
def test_no_error_is_invented(body: bytes) -> None:
    assert error_of(body, event=False) is None


def test_usage_of_captured_chunks() -> None:
    (event,) = [event for event in data_events("vllm/a02_stream_usage.sse") if marks_of(event) & Mark.USAGE]
    assert usage_of(event, event=True) == Usage(15, 12, 27)
    (event,) = [event for event in data_events("llamacpp/a02_stream_usage.sse") if marks_of(event) & Mark.USAGE]
    assert usage_of(event, event=True) == Usage(15, 12, 27)
    last = data_events("transformers/a02_stream_usage.sse")[-1]
    assert usage_of(last, event=True) == Usage(15, 12, 27), "in the finish chunk, not in one of its own"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"usage":null}', b'{"usage":{"prompt_tokens":"x"}}', b"{", b"[" * 100_000]
)
def test_usage_that_cannot_be_read_is_none(body: bytes) -> None:
    assert usage_of(body, event=False) is None


def test_the_payload_is_the_joined_data_lines() -> None:
    assert payload_of(b"event: x\ndata: {\r\ndata:1}\r\n\r\n") == b"{\n1}"
