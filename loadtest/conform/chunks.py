"""The engine's side of the wire: chat chunks as vLLM writes them, byte for byte under our control."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["DONE", "chunk", "completion", "delta", "error", "event", "finish", "role", "usage"]

DONE: Final = b"data: [DONE]\n\n"
_CREATED: Final = 1_795_226_063


def event(data: bytes) -> bytes:
    """Return data as one event."""
    return b"data: " + data + b"\n\n"


def chunk(id_: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
    """Return one chunk as an event."""
    body = {
        "id": id_,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": "conform",
        "choices": choices,
        **more,
    }
    return event(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


def role(id_: str, index: int = 0) -> bytes:
    """Return the chunk that opens a choice."""
    return _choice(id_, index, {"role": "assistant", "content": ""})


def delta(id_: str, text: str, index: int = 0) -> bytes:
    """Return one token."""
    return _choice(id_, index, {"content": text})


def finish(id_: str, index: int = 0, reason: str = "stop") -> bytes:
    """Return the chunk that ends a choice."""
    return chunk(id_, [{"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}])


def usage(id_: str, prompt: int = 7, completion: int = 11) -> bytes:
    """Return the chunk that `include_usage` asks for."""
    return chunk(id_, [], usage=_usage(prompt, completion))


def completion(id_: str, text: str, **more: Any) -> bytes:
    """Return a whole answer's body."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = {
        "id": id_,
        "object": "chat.completion",
        "created": _CREATED,
        "model": "conform",
        "choices": [choice],
        "usage": _usage(7, 11),
        **more,
    }
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def error(message: str, code: int, kind: str = "BadRequestError", param: str | None = None) -> bytes:
    """Return vLLM's error body."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return json.dumps(body, separators=(",", ":")).encode()


def _choice(id_: str, index: int, content: dict[str, Any]) -> bytes:
    return chunk(id_, [{"index": index, "delta": content, "logprobs": None, "finish_reason": None}])


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
