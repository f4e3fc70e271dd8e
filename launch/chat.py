"""`headrace chat`: one prompt, streamed to the terminal, and what the stream was like."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from launch.screen import Screen
from streamkit.ops import server
from streamkit.ops.http_client import HttpClient, HttpError, Stream
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["chat"]

#: Held a stream's key, so that none stands in a shell's history.
KEY_VARIABLE: Final = "HEADRACE_API_KEY"
_MODELS_MS: Final = 10_000
_HEADERS_MS: Final = 120_000
#: The edge sends a heartbeat long before that.
_SILENCE_MS: Final = 90_000
_CANCELLED: Final = 130


class _Failure(Exception):  # noqa: N818  a result that ends the command, not a bug
    """Why there is no complete answer, in one line."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Answer:
    """What has come so far; times are seconds of the monotonic clock."""

    model: str
    backend: str
    begun: float
    text: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    tokens: int | None = None
    finish_reason: str | None = None

    def figures(self) -> dict[str, Any]:
        """Return the measurements by name; None where there is nothing to measure."""
        arrivals = self.arrivals
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(arrivals))
        tokens = len(arrivals) if self.tokens is None else self.tokens
        span = arrivals[-1] - arrivals[0] if arrivals else 0.0
        return {
            "ttft_ms": round((arrivals[0] - self.begun) * 1000, 1) if arrivals else None,
            "tokens": tokens,
            "tokens_per_s": round((tokens - 1) / span, 1) if span > 0 and tokens > 1 else None,
            "gap_p99_ms": round(gaps[min(len(gaps) - 1, int(len(gaps) * 0.99))] * 1000, 1) if gaps else None,
            "model": self.model,
            "backend": self.backend,
            "finish_reason": self.finish_reason,
        }


def chat(options: argparse.Namespace) -> int:
    """Stream one answer and return the exit status: 0 = complete, 1 = not, 130 = cancelled."""
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    url = options.url.rstrip("/").removesuffix("/v1")
    out, aside = Screen(), Screen(sys.stderr)
    try:
        answer = server.run(lambda: _ask(url, options.model, prompt, None if options.json else out))
    except KeyboardInterrupt:
        aside.line("\ncancelled")
        return _CANCELLED
    except (_Failure, HttpError) as failure:
        if options.json:
            code = failure.code if isinstance(failure, _Failure) else failure.reason
            print(msgspec.json.encode({"error": {"message": str(failure), "code": code}}).decode())
        else:
            aside.line(aside.red(f"headrace chat: {failure}"))
        return 1
    figures = answer.figures()
    if options.json:
        print(msgspec.json.encode({"text": "".join(answer.text), **figures}).decode())
    else:
        out.line()
        aside.line(aside.dim(_summary(figures)))
    return 0


async def _ask(url: str, model: str | None, prompt: str, screen: Screen | None) -> _Answer:
    key = os.environ.get(KEY_VARIABLE)
    headers = [("authorization", f"Bearer {key}")] if key else []
    async with HttpClient() as http:
        name = model or await _first_model(http, url, headers)
        payload = {
            "model": name,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": prompt}],
        }
        begun = time.monotonic()
        call = http.stream_lines(
            f"{url}/v1/chat/completions", payload, timeout_ms=_HEADERS_MS, idle_ms=_SILENCE_MS, headers=headers
        )
        async with call as stream:
            if stream.status != 200:
                raise await _refusal(stream)
            answer = _Answer(name, stream.headers.get("x-headrace-backend", ""), begun)
            await _read(stream.lines, answer, screen)
            return answer


async def _first_model(http: HttpClient, url: str, headers: list[tuple[str, str]]) -> str:
    listed = await http.get(f"{url}/v1/models", timeout_ms=_MODELS_MS, headers=headers)
    if listed.status != 200:
        raise _failure_of(listed.status, listed.body)
    try:
        return str(msgspec.json.decode(listed.body)["data"][0]["id"])
    except (*UNREADABLE, LookupError, TypeError):
        raise _Failure(f"{url} serves no model yet; name one with --model") from None


async def _read(lines: AsyncIterator[str], answer: _Answer, screen: Screen | None) -> None:
    async for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            if answer.finish_reason is None:
                raise _Failure("the stream ended without a finish_reason; the answer is not complete")
            return
        try:
            chunk = msgspec.json.decode(data)
        except UNREADABLE:
            raise _Failure("the stream carried an event that is not JSON") from None
        if "error" in chunk:
            raise _failure_of(None, data.encode())
        _take(chunk, answer, screen)
    raise _Failure("the stream broke off; the answer is not complete")


def _take(chunk: Mapping[str, Any], answer: _Answer, screen: Screen | None) -> None:
    usage = chunk.get("usage")
    if usage:
        answer.tokens = usage.get("completion_tokens")
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if text or thought:
            answer.arrivals.append(time.monotonic())
        answer.text.append(text)
        if screen is not None:
            # A model's thinking is for the person who waits, not for a file.
            screen.piece(text, screen.dim(thought) if screen.live else "")
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason


async def _refusal(stream: Stream) -> _Failure:
    body = "\n".join([line async for line in stream.lines])
    return _failure_of(stream.status, body.encode())


def _failure_of(status: int | None, body: bytes) -> _Failure:
    """Return what an error envelope says, whatever is in it."""
    code, message = None, body.decode("utf-8", "replace").strip()[:200]
    try:
        error = msgspec.json.decode(body)["error"]
        message, code = (error["message"], error.get("code")) if isinstance(error, dict) else (error, None)
    except (*UNREADABLE, LookupError, TypeError):
        pass
    lead = "the stream failed" if status is None else f"refused with {status}"
    return _Failure(f"{lead}{f' ({code})' if code else ''}: {message}", None if code is None else str(code))


def _summary(figures: Mapping[str, Any]) -> str:
    parts = [
        f"first token {figures['ttft_ms']:.0f} ms" if figures["ttft_ms"] is not None else "no token",
        f"{figures['tokens']} tokens",
        f"{figures['tokens_per_s']} tokens/s" if figures["tokens_per_s"] else "",
        f"gap p99 {figures['gap_p99_ms']:.0f} ms" if figures["gap_p99_ms"] is not None else "",
        figures["backend"],
    ]
    return " · ".join(filter(None, parts))
