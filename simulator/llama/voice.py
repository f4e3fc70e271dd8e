"""How llama-server speaks: a bare role event with null content, timings in the finish event, its own key order."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec

from simulator.answers import Finished
from simulator.body import Body
from simulator.directives import Directives
from simulator.errors import EngineError
from simulator.frames import Usage
from simulator.plain import PlainStream
from simulator.request import Generate
from simulator.settings import SimulatorSettings
from simulator.voice import Spoken

__all__ = ["LLAMA", "refusal"]

_FINGERPRINT: Final = "b11669-simulated"
_json = msgspec.json.encode
_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 501: "not_supported_error",
    503: "unavailable_error",
}  # fmt: skip


def refusal(error: EngineError) -> bytes:
    """Return an error's body (c02_missing_messages; of a 404 and 503 the code comes last, g09_notfound)."""
    kind = _TYPES.get(error.status, "server_error")
    if error.status in (404, 503):
        return _json({"error": {"message": str(error), "type": kind, "code": error.status}})
    return _json({"error": {"code": error.status, "message": str(error), "type": kind}})


def _timings(usage: Usage, took_s: float) -> dict[str, float | int]:
    spent_ms = max(0.001, took_s * 1000)
    prompt, predicted = usage.prompt, usage.completion
    return {
        "cache_n": 0, "prompt_n": prompt, "prompt_ms": 1.5, "prompt_per_token_ms": 1.5 / max(1, prompt),
        "prompt_per_second": prompt / 0.0015, "predicted_n": predicted, "predicted_ms": spent_ms,
        "predicted_per_token_ms": spent_ms / max(1, predicted), "predicted_per_second": predicted * 1000 / spent_ms,
    }  # fmt: skip


def _timed(usage: Usage, began: float) -> dict[str, Any]:
    return {"timings": _timings(usage, time.monotonic() - began)}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "completion_tokens": usage.completion, "prompt_tokens": usage.prompt,
        "total_tokens": usage.prompt + usage.completion, "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip


class _Events:
    """The events of one answer (a01_stream, a02_stream_usage, b07_completions_stream_usage)."""

    done: Final = b"data: [DONE]\n\n"
    garbage: Final = {
        "json": b'data: {"choices":[{"finish_reason":nu\n\n',
        "line": b"this line is no field at all\n\n",
        "utf8": b'data: {"choices":"\xff\xfe\xc3"}\n\n',
    }

    def __init__(self, request: Generate, id_: str, created: int, usage: Usage) -> None:
        self._request = request
        self._id = id_
        self._created = created
        self._usage = usage
        self._began = time.monotonic()
        self._said = 0
        self._roles: dict[int, bytes] = {}

    def role(self, index: int) -> bytes:
        """Nothing of its own: it travels in one HTTP chunk with the first token (a01_stream)."""
        if self._request.chat:
            self._roles[index] = self._chat(index, {"role": "assistant", "content": None}, None)
        return b""

    def piece(self, index: int, text: str) -> bytes:
        self._said += 1
        if self._request.chat:
            return self._roles.pop(index, b"") + self._chat(index, {"content": text}, None)
        return self._text(index, text)

    def finish(self, index: int, reason: str | None) -> bytes:
        counted = Usage(self._usage.prompt, self._said)
        timings = _timed(counted, self._began) if not self._request.usage else {}
        if self._request.chat:
            return self._roles.pop(index, b"") + self._chat(index, {}, reason, **timings)
        # A text completion's last event has usage, asked for or not (b07_completions_stream_usage).
        counts = {"usage": _usage(counted), "id": self._id, **_timed(counted, self._began)}
        return self._event([{"text": "", "index": index, "logprobs": None, "finish_reason": reason}], **counts)

    def usage(self, usage: Usage) -> bytes:
        if not self._request.chat:
            return b""
        return self._event([], usage=_usage(usage), **_timed(usage, self._began))

    def error(self, error: EngineError) -> bytes:
        return b"data: " + refusal(error) + b"\n\n"

    def _chat(self, index: int, delta: dict[str, Any], reason: str | None, **members: Any) -> bytes:
        return self._event([{"finish_reason": reason, "index": index, "delta": delta}], **members)

    def _text(self, index: int, text: str) -> bytes:
        return self._event([{"text": text, "index": index, "logprobs": None, "finish_reason": None}])

    def _event(self, choices: list[Any], **members: Any) -> bytes:
        request = self._request
        known = {"model": request.model, "system_fingerprint": _FINGERPRINT}
        if request.chat:
            rest = {"id": self._id, **known, "object": "chat.completion.chunk"}
        else:
            rest = {**known, "object": "text_completion"}
            members = members or {"id": self._id}
        return b"data: %b\n\n" % _json({"choices": choices, "created": self._created, **rest, **members})


class _Llama:
    stream_type = "text/event-stream"
    #: behaviour.txt: "close NON-stream while running" is idle only when its answer is made.
    cancels_whole = False

    def spoken(
        self, body: Body, request: Generate, directives: Directives, settings: SimulatorSettings,
        loop: asyncio.AbstractEventLoop, *, id_: str, created: int, usage: Usage,
    ) -> Spoken:  # fmt: skip
        return PlainStream(body, request, directives, _Events(request, id_, created, usage), usage)

    def whole(
        self, request: Generate, finished: list[Finished], usage: Usage, metrics: dict[str, Any] | None, *,
        id_: str, created: int,
    ) -> bytes:  # fmt: skip
        """b01_nonstream, b06_completions; a prefill comes back with the text (b05_nonstream_prefill)."""
        choices: list[dict[str, Any]] = []
        for one in finished:
            text = one.prompt.so_far + one.text if request.chat else one.text
            if request.chat:
                message = {"role": "assistant", "content": text}
                choices.append({"finish_reason": one.reason, "index": one.index, "message": message})
            else:
                choices.append({"text": text, "index": one.index, "logprobs": None, "finish_reason": one.reason})
        kind = "chat.completion" if request.chat else "text_completion"
        return _json({
            "choices": choices, "created": created, "model": request.model, "system_fingerprint": _FINGERPRINT,
            "object": kind, "usage": _usage(usage), "id": id_, "timings": _timings(usage, 0.001),
        })  # fmt: skip

    def refusal(self, error: EngineError) -> bytes:
        return refusal(error)


LLAMA: Final = _Llama()
