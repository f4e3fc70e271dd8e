"""How Ollama speaks: lines of JSON on its own API, OpenAI's events on the other."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

import msgspec

from simulator.answers import Finished
from simulator.body import Body
from simulator.directives import Directives
from simulator.errors import EngineError
from simulator.frames import Usage
from simulator.ollama.loaded import now_text
from simulator.plain import Frames, PlainStream
from simulator.request import Generate
from simulator.settings import SimulatorSettings
from simulator.voice import Spoken

__all__ = ["NATIVE", "OPENAI", "Lines", "Native", "refusal"]

_json = msgspec.json.encode
#: Tokens that are said as thinking where the request asks to think.
THOUGHTS: Final = 6


def refusal(error: EngineError) -> bytes:
    """Return `{"error": "…"}`."""
    return json.dumps({"error": str(error)}).encode()


class Native(Generate, kw_only=True):
    """A request of Ollama's own API: what it adds to the shape that the core knows."""

    think: bool = False
    context: int = 4096
    keep_s: float | None = None
    #: The function that the simulated model decides to call.
    call: str | None = None


class Lines:
    """`/api/chat` and `/api/generate`: a line for each token, a last one with the counts."""

    garbage: Final = {
        "json": b'{"model":"m","created_at":"2026-01-01T00:00:00Z","mess\n',
        "line": b"this line is no JSON at all\n",
        "utf8": b'{"model":"m","message":{"role":"assistant","content":"\xff\xfe"},"done":false}\n',
    }

    def __init__(self, request: Generate, usage: Usage) -> None:
        self._request = request
        self._usage = usage
        self._said = 0
        self._reason: str | None = None
        self._called: list[str] = []
        self._began = time.monotonic_ns()

    @property
    def _native(self) -> Native | None:
        return self._request if isinstance(self._request, Native) else None

    @property
    def done(self) -> bytes:
        """The last line; a broken one without `done_reason` where the reason was withheld."""
        took = time.monotonic_ns() - self._began
        last = {"done_reason": self._reason} if self._reason is not None else {}
        counts = {
            "total_duration": took, "load_duration": 1_000_000, "prompt_eval_count": self._usage.prompt,
            "prompt_eval_duration": 1_000_000, "eval_count": self._usage.completion, "eval_duration": took,
        }  # fmt: skip
        return self._line(self._says(""), done=True, **last, **counts)

    def role(self, index: int) -> bytes:
        """Nothing: every line has the role."""
        return b""

    def piece(self, index: int, text: str) -> bytes:
        """A line with a token; of a call nothing before it is whole."""
        native = self._native
        if native is not None and native.call is not None:
            self._called.append(text)
            return b""
        self._said += 1
        if native is not None and native.think and self._said <= THOUGHTS:
            return self._line(self._says("", thinking=text), done=False)
        return self._line(self._says(text), done=False)

    def finish(self, index: int, reason: str | None) -> bytes:
        """A line with the call, if there is one; the reason waits for the last line."""
        self._reason = reason
        native = self._native
        if native is None or native.call is None:
            return b""
        said = "".join(self._called)
        if reason == "length":
            # The limit cut the call: Ollama cannot parse it, and says it as text.
            return self._line(self._says(said), done=False)
        call = {"function": {"index": 0, "name": native.call, "arguments": json.loads(said)}}
        return self._line(self._says("", tool_calls=[{"id": "call_sim0", **call}]), done=False)

    def usage(self, usage: Usage) -> bytes:
        """Nothing: the last line has the counts."""
        return b""

    def error(self, error: EngineError) -> bytes:
        """A line with nothing but the error."""
        return refusal(error) + b"\n"

    def _says(self, text: str, **members: Any) -> dict[str, Any]:
        if self._request.chat:
            return {"message": {"role": "assistant", "content": text, **members}}
        return {"response": text, **members}

    def _line(self, says: dict[str, Any], *, done: bool, **members: Any) -> bytes:
        head: dict[str, Any] = {"model": self._request.model, "created_at": now_text()}
        # Go escapes these three in JSON.
        text = json.dumps({**head, **says, "done": done, **members}, ensure_ascii=False, separators=(",", ":"))
        text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
        return text.encode() + b"\n"


class _Events:
    """Its OpenAI endpoint: every delta has the role, the finish comes in an event of its own."""

    done: Final = b"data: [DONE]\n\n"
    garbage: Final = {
        "json": b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","choi\n\n',
        "line": b"this line is no field at all\n\n",
        "utf8": b'data: {"id":"\xff\xfe\xc3"}\n\n',
    }

    def __init__(self, request: Generate, id_: str, created: int) -> None:
        kind = "chat.completion.chunk" if request.chat else "text_completion"
        self._chat = request.chat
        self._head: dict[str, Any] = {"id": id_, "object": kind, "created": created, "model": request.model}
        self._head["system_fingerprint"] = "fp_ollama"

    def role(self, index: int) -> bytes:
        return b""

    def piece(self, index: int, text: str) -> bytes:
        return self._event([self._choice(text, None)])

    def finish(self, index: int, reason: str | None) -> bytes:
        return self._event([self._choice("", reason)])

    def usage(self, usage: Usage) -> bytes:
        return self._event([], usage=_usage(usage))

    def error(self, error: EngineError) -> bytes:
        return b"data: " + refusal(error) + b"\n\n"

    def _choice(self, text: str, reason: str | None) -> dict[str, Any]:
        says = {"delta": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {"index": 0, **says, "finish_reason": reason}

    def _event(self, choices: list[Any], **members: Any) -> bytes:
        return b"data: %b\n\n" % _json({**self._head, "choices": choices, **members})


class _Voice:
    cancels_whole = True

    def __init__(self, *, native: bool) -> None:
        self._native = native
        self.stream_type = "application/x-ndjson" if native else "text/event-stream"

    def spoken(
        self, body: Body, request: Generate, directives: Directives, settings: SimulatorSettings,
        loop: asyncio.AbstractEventLoop, *, id_: str, created: int, usage: Usage,
    ) -> Spoken:  # fmt: skip
        frames: Frames = Lines(request, usage) if self._native else _Events(request, id_, created)
        return PlainStream(body, request, directives, frames, usage)

    def whole(
        self, request: Generate, finished: list[Finished], usage: Usage, metrics: dict[str, Any] | None, *,
        id_: str, created: int,
    ) -> bytes:  # fmt: skip
        choice = finished[0]
        if self._native:
            lines = Lines(request, usage)
            said = [lines.piece(0, token.text) for token in choice.tokens]
            said += [lines.finish(0, choice.reason)]
            return _joined([line for line in (*said, lines.done) if line], request)
        says: dict[str, Any] = {"text": choice.text}
        if request.chat:
            says = {"message": {"role": "assistant", "content": choice.text}}
        kind = "chat.completion" if request.chat else "text_completion"
        return _json({
            "id": id_, "object": kind, "created": created, "model": request.model, "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, **says, "finish_reason": choice.reason}], "usage": _usage(usage),
        })  # fmt: skip

    def refusal(self, error: EngineError) -> bytes:
        return refusal(error)


def _joined(lines: list[bytes], request: Generate) -> bytes:
    """Return the last line with what all lines said, which is Ollama's whole answer."""
    read = [json.loads(line) for line in lines]
    last: dict[str, Any] = read[-1]
    if not request.chat:
        last["response"] = "".join(line["response"] for line in read)
        return _json(last)
    messages = [line["message"] for line in read]
    text = "".join(message["content"] for message in messages)
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking := "".join(message.get("thinking", "") for message in messages):
        said["thinking"] = thinking
    if calls := [call for message in messages for call in message.get("tool_calls", ())]:
        said["tool_calls"] = calls
    last["message"] = said
    return _json(last)


def _usage(usage: Usage) -> dict[str, int]:
    prompt, completion = usage.prompt, usage.completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


NATIVE: Final = _Voice(native=True)
OPENAI: Final = _Voice(native=False)
