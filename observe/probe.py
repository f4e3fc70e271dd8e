"""One probe: a tiny real stream through one edge to one backend, timed as its reader sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Final

import msgspec

from observe.detect import Probe
from streamkit.ops.http_client import Headers, HttpClient, HttpError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Probed", "Prober"]

#: For an edge to say anything at all.
_ALIVE_MS: Final = 1_000
#: Answers that say nothing about the backend: full, over a limit; the edge's own state, or our key.
_BUSY: Final = frozenset({"saturated", "over_quota", "insufficient_quota", "evicted", "out_of_memory"})
_UNASKED: Final = frozenset({"no_route", "draining", "unauthorized", "forbidden", "not_found", "model_not_found"})


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe, and the node of the edge that served it; empty = it did not say."""

    probe: Probe
    node: str = ""


@dataclass(slots=True)
class _Answering:
    """How far an answer has come: its head, and the node that it told."""

    begun: bool = False
    node: str = ""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Error(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _Frame(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


_FRAME: Final = msgspec.json.Decoder(_Frame)


class Prober:
    """Makes probes.

    Args:
        http: makes the calls.
        key: an operator's; empty = none is needed.
        tokens: to ask for.
        timeout_ms: a probe that is not whole by then has failed.
    """

    def __init__(self, http: HttpClient, *, key: str, tokens: int, timeout_ms: int) -> None:
        self._http = http
        self._key = key
        self._tokens = tokens
        self._timeout_ms = timeout_ms

    async def probe(self, edge: str, backend: str, model: str) -> Probed:
        """Probe one path; whatever goes wrong is a finding."""
        body = {
            "model": model, "stream": True, "max_tokens": self._tokens, "temperature": 0,
            "messages": [{"role": "user", "content": "Count to ten."}],
        }  # fmt: skip
        headers: Headers = (("x-headrace-probe", backend), *(self._authorization()))
        url, answering = edge.rstrip("/"), _Answering()
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                return await self._stream(f"{url}/v1/chat/completions", body, headers, answering)
        except TimeoutError:
            late = f"not whole within {self._timeout_ms} ms"
            if not answering.begun and (silent := await self._silent(url)):
                return Probed(Probe(result="unasked", detail=f"{late}, and of the edge: {silent}"))
            return Probed(Probe(result="failed", detail=late), answering.node)
        except HttpError as error:
            # Before an answer it is the edge that did not answer, within one the stream that broke.
            probe = Probe(result="failed" if answering.begun else "unasked", detail=error.detail)
            return Probed(probe, answering.node)

    async def _silent(self, edge: str) -> str:
        """Return why an edge seems to answer nothing at all; empty = it does answer, so the backend is what is late.

        Before the first event an edge says nothing of itself: a stopped one looks like a stalled backend.
        """
        try:
            await self._http.get(f"{edge}/v1/models", timeout_ms=_ALIVE_MS, headers=self._authorization())
        except HttpError as error:
            return error.detail
        return ""

    async def _stream(self, url: str, body: dict[str, object], headers: Headers, answering: _Answering) -> Probed:
        began = last = monotonic()
        first_s: float | None = None
        gap_s: float | None = None
        done = False
        async with self._http.stream_lines(
            url, body, timeout_ms=2 * self._timeout_ms, idle_ms=2 * self._timeout_ms, headers=headers
        ) as stream:
            node = stream.headers.get("x-headrace-node", "")
            answering.begun, answering.node = True, node
            if stream.status != 200:
                text = "".join([line async for line in stream.lines])
                return Probed(_refused(stream.status, text), node)
            async for line in stream.lines:
                if not line.startswith("data:"):
                    continue
                payload = line[5:].strip()
                if payload == "[DONE]":
                    done = True
                    break
                frame = _read(payload)
                if frame is None:
                    return Probed(Probe(result="failed", detail="a frame that is no JSON"), node)
                if frame.error is not None:
                    return Probed(_judged(str(frame.error.code or ""), frame.error.message), node)
                if not any(_says(choice) for choice in frame.choices):
                    continue
                now = monotonic()
                if first_s is None:
                    first_s = now - began
                else:
                    gap_s = max(gap_s or 0.0, now - last)
                last = now
        if not done or first_s is None:
            return Probed(Probe(result="failed", detail="ended without a token, or without its end"), node)
        return Probed(Probe(result="ok", ttft_s=first_s, gap_s=gap_s), node)

    def _authorization(self) -> Headers:
        return (("authorization", f"Bearer {self._key}"),) if self._key else ()


def _says(choice: _Choice) -> bool:
    delta = choice.delta
    return bool(choice.text or (delta and (delta.content or delta.reasoning or delta.reasoning_content)))


def _read(payload: str) -> _Frame | None:
    try:
        return _FRAME.decode(payload.encode())
    except UNREADABLE:
        return None


def _refused(status: int, text: str) -> Probe:
    frame = _read(text)
    error = frame.error if frame is not None and frame.error is not None else _Error(message=f"status {status}")
    return _judged(str(error.code or ""), error.message or f"status {status}")


def _judged(code: str, message: str) -> Probe:
    if code in _BUSY:
        return Probe(result="busy", detail=code)
    if code in _UNASKED:
        return Probe(result="unasked", detail=code)
    return Probe(result="failed", detail=message[:200])
