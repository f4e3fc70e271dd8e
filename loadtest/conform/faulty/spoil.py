"""Events as some gateways would write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

__all__ = ["made_up", "spoilt", "spoilt_usage"]

On = Callable[[str], bool]


def spoilt(data: bytes, on: On, asked: dict[str, Any], *, plain: bool, finish: bool) -> bytes:
    """Return an event with the faults of its content.

    Args:
        data: the event.
        on: which faults are switched on.
        asked: the request.
        plain: no case has scripted the answer.
        finish: it holds a finish_reason.
    """
    if plain and on("chunk-shape"):
        data = data.replace(b'"chat.completion.chunk"', b'"chat.completion"')
    if on("byte-faithful"):
        data = data.replace("\ufffd".encode(), b"")
    if on("logprobs"):
        data = re.sub(rb'"logprobs":\{.*?\]\}(?=,"finish)', b'"logprobs":null', data)
    if on("n-choices") and asked.get("n"):
        data = data.replace(b'"index":1', b'"index":0')
    if finish and on("one-identity"):
        data = re.sub(rb'"id":"chatcmpl-([0-9a-f]{16})"', rb'"id":"other-\1"', data)
    return data


def spoilt_usage(data: bytes, on: On, *, plain: bool) -> bytes:
    """Return a usage chunk with the faults of its figures."""
    if plain and on("streaming-usage"):
        return data.replace(b'"total_tokens":18', b'"total_tokens":19')
    if not plain and on("usage-asked"):
        return data.replace(b'"total_tokens":18,"completion_tokens":11', b'"total_tokens":29,"completion_tokens":22')
    return data


def made_up() -> bytes:
    """Return a chunk with a finish_reason that no engine sent."""
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunk = {
        "id": "made-up",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "conform",
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
