"""Ollama's answer in OpenAI's words: lines into events, a whole answer into one JSON body, errors into envelopes.

`finish_reason` comes from `done_reason` alone: a stream that ends without one stays without one, and is judged as
every other (law 5).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from edge.protocol.malformed import MalformedError
from edge.protocol.ollama.lines import Line, LineSplitter, ToolCall, line_of
from streamkit.wire.errors import envelope, error_frame
from streamkit.wire.events import Batch, Event, Mark
from streamkit.wire.openai import DONE, error_of

__all__ = ["EventTranslator", "refusal", "whole"]

#: `done_reason` → `finish_reason`. "load" and "unload" answer an order, not a question.
_REASONS: Final = {"stop": "stop", "length": "length"}
#: The engine thinks that we hung up; to our client that is a failure of the backend.
_CLIENT_CLOSED: Final = 499
_json = msgspec.json.encode


class EventTranslator:
    """One stream: bytes of NDJSON in, batches of OpenAI events out; the place of an `EventSplitter`.

    Args:
        chat: `/api/chat`, not `/api/generate`.
        id_: of the answer; the same on every event, as `created` is.
        created: seconds since the epoch.
        model: the engine's name for the model.
        usage: a usage chunk is wanted.
        max_line_bytes: bound of a line.
    """

    def __init__(self, *, chat: bool, id_: str, created: int, model: str, usage: bool, max_line_bytes: int) -> None:
        self._chat = chat
        kind = b"chat.completion.chunk" if chat else b"text_completion"
        self._head = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":[' % (
            _json(id_),
            kind,
            created,
            _json(model),
        )
        self._usage = usage
        self._lines = LineSplitter(max_line_bytes)
        self._opened = False
        self._calls = 0
        self._over = False

    def push(self, chunk: bytes) -> Batch | None:
        """Take the next bytes of the body; return the events of the lines that are now whole, or None.

        Raises:
            EventTooLargeError: a line, or the half line at the end, is over the bound.
            MalformedError: a line is not Ollama's.
        """
        events: list[Event] = []
        for data in self._lines.push(chunk):
            if self._over:
                break
            try:
                line = line_of(data, chat=self._chat)
            except MalformedError as exc:
                exc.before = _batch(events)
                raise
            self._translate(line, events)
        return _batch(events)

    def _translate(self, line: Line, out: list[Event]) -> None:
        if line.error is not None:
            self._fail(line.error, out)
            return
        delta = self._delta(line)
        if not self._opened and self._chat:
            out.append(self._event(b'"delta":{"role":"assistant","content":""}'))
        self._opened = True
        if delta is not None:
            out.append(self._event(delta))
        if line.done:
            self._end(line, out)

    def _end(self, line: Line, out: list[Event]) -> None:
        reason = _REASONS.get(line.done_reason or "")
        if reason is None and line.done_reason:
            self._fail(f"the answer ended with done_reason {line.done_reason[:40]!r}", out)
            return
        self._over = True
        if reason is not None:
            if self._calls and reason == "stop":
                reason = "tool_calls"
            nothing = b'"delta":{}' if self._chat else b'"text":"","logprobs":null'
            out.append(self._event(nothing, reason))
        if self._usage:
            out.append(Event(b'%b],"usage":%b}\n\n' % (self._head, _json(_usage(line))), Mark.USAGE))
        out.append(Event(DONE, Mark.DONE))

    def _fail(self, message: str, out: list[Event]) -> None:
        self._over = True
        body = envelope(message, type_="server_error", param=None, code=500)
        out.append(Event(error_frame(body), Mark.ERROR))

    def _delta(self, line: Line) -> bytes | None:
        """Return the members of the choice that say what this line adds; None = nothing."""
        if not self._chat:
            return b'"text":%b,"logprobs":null' % _json(line.response) if line.response else None
        message = line.message
        if message is None:
            return None
        parts: list[bytes] = []
        if message.thinking:
            # vLLM's name for it, and that of Ollama's own OpenAI endpoint.
            parts.append(b'"reasoning":%b' % _json(message.thinking))
        if message.content:
            parts.append(b'"content":%b' % _json(message.content))
        if message.tool_calls:
            calls = [_call(call, self._calls + index) for index, call in enumerate(message.tool_calls)]
            self._calls += len(calls)
            parts.append(b'"tool_calls":%b' % _json(calls))
        return b'"delta":{%b}' % b",".join(parts) if parts else None

    def _event(self, inside: bytes, reason: str | None = None) -> Event:
        data = b'%b{"index":0,%b,"finish_reason":%b}]}\n\n' % (self._head, inside, _json(reason))
        return Event(data, Mark.FINISH if reason else 0)


def _batch(events: list[Event]) -> Batch | None:
    if not events:
        return None
    marks = 0
    for event in events:
        marks |= event.marks
    return Batch(b"".join(event.data for event in events), len(events), marks, tuple(events) if marks else ())


def whole(body: bytes, *, chat: bool, id_: str, created: int, model: str) -> bytes:
    """Return a whole answer of Ollama's as OpenAI's.

    Raises:
        MalformedError: it is not Ollama's, or it does not say why it ended.
    """
    line = line_of(body, chat=chat)
    if line.error is not None:
        raise MalformedError("an error in place of an answer")
    reason = _REASONS.get(line.done_reason or "")
    if not line.done or reason is None:
        raise MalformedError("an answer that does not say why it ended")
    choice: dict[str, Any] = {"index": 0}
    if chat:
        message = line.message
        calls = (message.tool_calls if message else None) or ()
        said: dict[str, Any] = {"role": "assistant", "content": (message.content if message else None) or ""}
        if message is not None and message.thinking:
            said["reasoning"] = message.thinking
        if calls:
            said["tool_calls"] = [_call(call, index) for index, call in enumerate(calls)]
            reason = "tool_calls" if reason == "stop" else reason
        choice |= {"message": said, "logprobs": None, "finish_reason": reason}
    else:
        choice |= {"text": line.response or "", "logprobs": None, "finish_reason": reason}
    kind = "chat.completion" if chat else "text_completion"
    return _json(
        {"id": id_, "object": kind, "created": created, "model": model, "choices": [choice], "usage": _usage(line)}
    )


def refusal(status: int, body: bytes) -> tuple[int, bytes]:
    """Return a refusal with its status as an OpenAI envelope; Ollama's is `{"error": "…"}`."""
    found = error_of(body, event=False)
    message = found.message if found is not None and found.message else f"Ollama refused with HTTP {status}"
    if status == _CLIENT_CLOSED:
        return 502, envelope(message, type_="server_error", param=None, code=status)
    kind = {404: "not_found_error"}.get(status, "invalid_request_error" if status < 500 else "server_error")
    return status, envelope(message, type_=kind, param=None, code=status)


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": bytes(call.function.arguments).decode()}
    id_ = call.id or f"call_{secrets.token_hex(8)}"
    return {"index": index, "id": id_, "type": "function", "function": function}


def _usage(line: Line) -> dict[str, int]:
    prompt, completion = line.prompt_eval_count, line.eval_count
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
