"""Comparing what the backend sent with what the client got."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loadtest.conform import sse
from loadtest.conform.http import Answer

__all__ = ["UnmetError", "content", "difference", "error_body", "finishes", "kept", "said", "stream_of"]


class UnmetError(Exception):
    """The gateway did something that settles the case: the text is the evidence."""


def said(answer: Answer) -> str:
    """Return an answer in a few words."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        found = sse.payloads(answer.body)
        last = found[-1][:60].decode(errors="replace") if found else "nothing"
        return f"{answer.status}, {len(found)} events, last {last}, {answer.outcome}"
    return f"{answer.status} {answer.body[:100].decode(errors='replace')!r}, {answer.outcome}"


def stream_of(answer: Answer) -> list[bytes]:
    """Return the payloads of a stream that should have succeeded, without `[DONE]`.

    Raises:
        UnmetError: it is no successful, whole stream.
    """
    if answer.status != 200 or not answer.whole:
        raise UnmetError(f"no whole stream: {said(answer)}")
    if told := sse.told_error(answer):
        raise UnmetError(f"a good answer ended in an {told}")
    return [data for data in sse.payloads(answer.body) if data != sse.DONE]


def content(payloads: Sequence[bytes]) -> dict[int, dict[str, Any]]:
    """Return what a client keeps of a stream: text, tool calls, logprobs and finish_reason of each choice.

    Raises:
        UnmetError: an event is no JSON.
    """
    kept: dict[int, dict[str, Any]] = {}
    for data in payloads:
        try:
            chunk = json.loads(data)
        except ValueError:
            raise UnmetError(f"an event is no JSON: {data[:80]!r}") from None
        for choice in (chunk.get("choices") or []) if isinstance(chunk, dict) else []:
            one = kept.setdefault(choice.get("index", 0), {"text": "", "tools": {}, "logprobs": [], "finish": None})
            delta = choice.get("delta") or {}
            one["text"] += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                tool = one["tools"].setdefault(call.get("index", 0), {"id": None, "name": None, "arguments": ""})
                function = call.get("function") or {}
                tool["id"] = call.get("id") or tool["id"]
                tool["name"] = function.get("name") or tool["name"]
                tool["arguments"] += function.get("arguments") or ""
            one["logprobs"] += (choice.get("logprobs") or {}).get("content") or []
            one["finish"] = choice.get("finish_reason") or one["finish"]
    return kept


def kept(answer: Answer, sent: bytes) -> str:
    """Return evidence that the client's content is the backend's.

    Raises:
        UnmetError: it is not.
    """
    got = stream_of(answer)
    ours = content([data for data in sse.payloads(sent) if data != sse.DONE])
    theirs = content(got)
    if ours != theirs:
        raise UnmetError(f"content changed: {difference(str(ours).encode(), str(theirs).encode())}")
    return f"{len(got)} events, content intact"


def difference(sent: bytes, got: bytes) -> str:
    """Return where two byte strings part."""
    at = next((i for i, (a, b) in enumerate(zip(sent, got, strict=False)) if a != b), min(len(sent), len(got)))
    here = slice(max(0, at - 16), at + 32)
    return f"at byte {at} of {len(sent)}: sent {sent[here]!r}, got {got[here]!r}"


def finishes(payloads: Sequence[bytes]) -> list[str]:
    """Return all finish_reasons that were told."""
    found: list[str] = []
    for data in payloads:
        try:
            chunk = json.loads(data)
        except ValueError:
            continue
        if isinstance(chunk, dict):
            found += [choice["finish_reason"] for choice in chunk.get("choices") or [] if choice.get("finish_reason")]
    return found


def error_body(answer: Answer) -> dict[str, Any] | None:
    """Return the `error` object that both OpenAI SDKs read, or None where the body has no such shape."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return None
    found = body.get("error") if isinstance(body, dict) else None
    return found if isinstance(found, dict) and isinstance(found.get("message"), str) else None
