"""The seam between two engines' halves of one answer: what the first said, what to ask the second, and how to join.

The second engine gets the answer so far as the beginning of an assistant message that it is to go on with
(`continue_final_message`, captured: vllm a12, llama-server b05x), and `max_tokens` less what was sent. Its half then
carries the `id` and `created` of the first, by byte replacement: inside JSON strings every quote is escaped, so the
bytes `"id":"…"` can only be that member.

Only plain text can be continued so. A request that asks for more, or an answer that brings more, is left alone.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from edge.protocol.splice import append_item, set_member, top_level
from streamkit.wire.openai import payload_of
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Seam", "unfit"]

#: Members of a request with which an answer is more than its text, or its text more than a prefix to go on from.
_UNFIT: Final = (
    *("tools", "functions", "stop", "stop_token_ids", "logprobs", "top_logprobs", "prompt_logprobs"),
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "modalities", "audio"),
    *("reasoning", "reasoning_effort", "thinking", "include_reasoning", "chat_template_kwargs", "prediction"),
    *("min_tokens", "echo", "continue_final_message", "return_token_ids", "return_tokens_as_token_ids"),
)
_LIMITS: Final = ("max_tokens", "max_completion_tokens")
#: Raw events that are kept before they are read for their text.
_FOLD_BYTES: Final = 32 * 1024
_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ID: Final = re.compile(rb'"id"\s*:\s*"[^"\\]*"')
_CREATED: Final = re.compile(rb'"created"\s*:\s*\d+')
_ROLE: Final = re.compile(rb'"role"\s*:\s*"assistant"\s*,\s*')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')


class _Choice(msgspec.Struct):
    delta: dict[str, Any] = {}
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_CHUNK: Final = msgspec.json.Decoder(_Chunk)


def unfit(body: bytes) -> str | None:
    """Return the member of a chat request for which its answer cannot be continued, or None."""
    asked = msgspec.json.decode(body)
    for name in _UNFIT:
        if asked.get(name):
            return name
    if (asked.get("n") or 1) != 1:
        return "n"
    form = asked.get("response_format")
    if form and not (isinstance(form, dict) and form.get("type") == "text"):
        return "response_format"
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("continuous_usage_stats"):
        return "stream_options"
    if asked.get("add_generation_prompt") is False:
        return "add_generation_prompt"
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages"
    return next((name for name in _LIMITS if not isinstance(asked.get(name), int | None)), None)


class Seam:
    """What was delivered of one answer, and the joining of the next half.

    Args:
        max_bytes: bound of the text that is remembered; an answer beyond it cannot be continued any more.
    """

    __slots__ = ("_created", "_id", "_max_bytes", "_new_id", "_raw", "_raw_bytes", "_text",
                 "_text_bytes", "joined", "possible", "sent")  # fmt: skip

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._raw: list[bytes] = []
        self._raw_bytes = 0
        self._text: list[str] = []
        self._text_bytes = 0
        self._id: bytes | None = None
        self._created: bytes | None = None
        self._new_id: bytes | None = None
        #: Events with text so far: tokens, as far as anybody can tell without the engine's word.
        self.sent = 0
        #: Tokens that came from the halves before the present one.
        self.joined = 0
        #: Nothing but text was seen, and not too much of it.
        self.possible = True

    @property
    def held_bytes(self) -> int:
        """Bytes that are remembered now."""
        return self._raw_bytes + self._text_bytes

    @property
    def text(self) -> str:
        """What was delivered, as of the last `read`."""
        return "".join(self._text)

    def saw(self, data: bytes) -> None:
        """Remember delivered events. The only work for each read of a stream that nothing happens to."""
        if self.possible:
            self._raw.append(data)
            self._raw_bytes += len(data)
            if self._raw_bytes > _FOLD_BYTES:
                self.read()

    def read(self) -> None:
        """Turn remembered events into text."""
        raw, self._raw, self._raw_bytes = b"".join(self._raw), [], 0
        for event in _BLANK_LINE.split(raw):
            payload = payload_of(event)
            if payload and payload != b"[DONE]" and self.possible:
                self._read_one(payload)
        if self._text_bytes > self._max_bytes:
            self.possible = False
        if not self.possible:
            self._text.clear()
            self._text_bytes = 0

    def request(self, body: bytes) -> bytes | None:
        """Return the request for the next half, or None where nothing is left to ask for; see `unfit`, and `read`."""
        self.read()
        if not self.possible or not self.sent:
            return None
        for name in _LIMITS:
            span = top_level(body, name.encode())
            if span is None or body[span[0] : span[1]] == b"null":
                continue
            left = int(body[span[0] : span[1]]) - self.sent
            if left < 1:
                return None
            body = set_member(body, name.encode(), b"%d" % left)
        message = msgspec.json.encode({"role": "assistant", "content": self.text})
        body = append_item(body, b"messages", message)
        body = set_member(body, b"add_generation_prompt", b"false")
        return set_member(body, b"continue_final_message", b"true")

    def begin(self) -> None:
        """The events that `join` gets from now on are of another engine."""
        self.joined = self.sent
        self._new_id = None

    def join(self, data: bytes) -> bytes:
        """Return events of the next half as if the first engine had sent them."""
        if self._new_id is None:
            self._new_id = _found(_ID, data)
            data = _ROLE.sub(b"", data, count=1)
        if self._id and self._new_id:
            data = data.replace(self._new_id, self._id)
        if self._created:
            # llama-server's changes within an answer, with the clock.
            data = _CREATED.sub(self._created, data)
        if _USAGE.search(data):
            data = self._with_whole_usage(data)
        return data

    def _with_whole_usage(self, data: bytes) -> bytes:
        """Count the halves before as answer and not as prompt, in events that carry usage."""
        events: list[bytes] = []
        start = 0
        for match in _BLANK_LINE.finditer(data):
            event, start = data[start : match.end()], match.end()
            if _USAGE.search(event):
                payload = msgspec.json.decode(payload_of(event))
                usage = payload["usage"]
                usage["prompt_tokens"] = max(0, int(usage.get("prompt_tokens") or 0) - self.joined)
                usage["completion_tokens"] = int(usage.get("completion_tokens") or 0) + self.joined
                event = b"data: " + msgspec.json.encode(payload) + b"\n\n"
            events.append(event)
        return b"".join(events)

    def _read_one(self, payload: bytes) -> None:
        if self._id is None:
            self._id = _found(_ID, payload)
            self._created = _found(_CREATED, payload)
        try:
            chunk = _CHUNK.decode(payload)
        except UNREADABLE:
            self.possible = False
            return
        for choice in chunk.choices:
            text = choice.delta.get("content")
            more = any(value for name, value in choice.delta.items() if name not in ("role", "content"))
            if more or choice.logprobs or not isinstance(text, str | None):
                self.possible = False
                return
            if text:
                self._text.append(text)
                self._text_bytes += len(text.encode("utf-8", "replace"))
                self.sent += 1


def _found(pattern: re.Pattern[bytes], data: bytes) -> bytes | None:
    match = pattern.search(data)
    return match.group() if match is not None else None
