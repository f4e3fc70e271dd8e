"""Strategies for event streams as engines write them, and as they might."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import strategies as st

#: Texts that would fool a scan which forgets that JSON escapes quotes.
EVIL = [
    '"finish_reason":"stop"',
    '"finish_reason":null',
    '\\"finish_reason\\":\\"stop\\"',
    '","finish_reason":"length","x":"',
    "data: [DONE]\n\n",
    '{"error":{"message":"no"}}',
    '"choices":[{',
    '"usage":{"prompt_tokens":1}',
    '"delta":{"content":""}',
    "\r\n\r\n",
    "日本語 🦊 \u2028 \ufeff",
    "\\",
    '"',
    "event: error\ndata: x",
]
texts = st.one_of(st.sampled_from(EVIL), st.text(max_size=12))
finishes = st.sampled_from([None, None, None, "stop", "length", "tool_calls", "error", "abort", ""])


@st.composite
def choices(draw: st.DrawFn, index: int) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if draw(st.booleans()):
        delta["role"] = "assistant"
    kind = draw(st.sampled_from(["content", "tools", "reasoning", "nothing"]))
    if kind == "content":
        delta["content"] = draw(texts)
    elif kind == "tools":
        delta["tool_calls"] = [{"index": 0, "function": {"name": draw(texts), "arguments": draw(texts)}}]
    elif kind == "reasoning":
        delta["reasoning_content"] = draw(texts)
    choice: dict[str, Any] = {"index": index, "delta": delta}
    if draw(st.booleans()):
        choice["logprobs"] = {"content": [{"token": draw(texts), "logprob": -1.5, "top_logprobs": []}]}
    finish = draw(finishes)
    if finish is not None or draw(st.booleans()):
        choice["finish_reason"] = finish
    if draw(st.booleans()):
        choice = dict(reversed(choice.items()))
    return choice


@st.composite
def payloads(draw: st.DrawFn, n: int) -> Any:
    kind = draw(st.sampled_from(["delta"] * 6 + ["usage", "error", "odd error", "done", "text"]))
    if kind == "done":
        return None
    if kind == "usage":
        return {"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    if kind == "error":
        return {"error": {"message": draw(texts), "type": "BadRequestError", "code": 400}}
    if kind == "odd error":
        return {"object": "error", "error": draw(texts)}
    if kind == "text":
        finish = draw(finishes)
        return {
            "choices": [{"index": 0, "text": draw(texts), "logprobs": None, "finish_reason": finish}],
            "usage": None,
        }
    indexes = range(n) if draw(st.booleans()) else [draw(st.integers(0, n - 1))]
    return {"id": "x", "choices": [draw(choices(index)) for index in indexes], "usage": None}


@st.composite
def data_lines(draw: st.DrawFn, n: int) -> list[bytes]:
    payload = draw(payloads(n))
    after = draw(st.sampled_from([b"data: ", b"data: ", b"data:"]))
    if payload is None:
        return [after + b"[DONE]"]
    style = draw(st.sampled_from(["compact", "compact", "compact", "spaced", "indented"]))
    ascii_only = draw(st.booleans())
    if style == "indented":
        rows = json.dumps(payload, indent=1, ensure_ascii=ascii_only).encode().split(b"\n")
        return [b"data: " + row for row in rows]
    separators = (",", ":") if style == "compact" else None
    return [after + json.dumps(payload, separators=separators, ensure_ascii=ascii_only).encode()]


#: Lines that are hop-by-hop, or that a reader ignores.
dropped = st.sampled_from([b": keep-alive", b":", b"id: 7", b"id", b"id:", b"retry: 3000", b"retry"])
named = st.sampled_from([b"event: message", b"event: error", b"event:error", b"database: x", b"ident: 7"])


@st.composite
def events(draw: st.DrawFn, n: int) -> list[bytes]:
    kind = draw(st.sampled_from(["data"] * 8 + ["dressed"] * 2 + ["comment", "unknown"]))
    if kind == "comment":
        return draw(st.lists(dropped, min_size=1, max_size=2))
    if kind == "unknown":
        return [draw(named)]
    lines = draw(data_lines(n))
    if kind == "dressed":
        lines = draw(st.lists(st.one_of(dropped, named), max_size=2)) + lines + draw(st.lists(dropped, max_size=1))
    return lines


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, int]:
    """Return a stream and the number of choices asked for."""
    n = draw(st.sampled_from([1, 1, 2, 3]))
    ends = draw(st.sampled_from([[b"\n"], [b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n"]]))
    end = st.sampled_from(ends)
    out = draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"]))
    for lines in draw(st.lists(events(n), max_size=6)):
        out += b"".join(line + draw(end) for line in lines) + draw(end)
        if draw(st.integers(0, 9)) == 0:
            stop = draw(end)
            out += draw(st.sampled_from([stop, b"\xef\xbb\xbf" + stop]))
    out += draw(st.sampled_from([b"", b"", b"data: half", b": half", draw(end)]))
    return out, n


@st.composite
def cuts(draw: st.DrawFn, size: int) -> list[int]:
    """Return where to cut `size` bytes: everywhere, nowhere, or at some places."""
    if draw(st.booleans()):
        return draw(st.sampled_from([[], list(range(1, size))]))
    return sorted(draw(st.sets(st.integers(0, size), max_size=12)))


def pieces(stream: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *at, len(stream)]
    return [stream[start:stop] for start, stop in itertools.pairwise(bounds) if stop > start]
