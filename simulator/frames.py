"""The JSON of streamed events, key by key as vLLM 0.32 orders them (captures a01-a22, b07, b08, k06)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from simulator.logprobs import chat_logprobs, text_logprobs
from simulator.tokens import Token, escape

__all__ = ["DONE", "FINGERPRINT", "ChatFrames", "TextFrames", "Usage"]

DONE: Final = b"[DONE]"
FINGERPRINT: Final = "vllm-0.32.0-simulated"
_FINGERPRINT: Final = b',"system_fingerprint":"%b"' % FINGERPRINT.encode()

_json = msgspec.json.encode


class Usage(msgspec.Struct):
    """Tokens of one request, all its choices together."""

    prompt: int
    completion: int = 0

    def last(self) -> bytes:
        """The closing chunk's `usage`: three keys (a02_stream_usage)."""
        return b'"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            self.prompt, self.prompt + self.completion, self.completion,
        )  # fmt: skip

    def running(self, prompt: int, completion: int) -> bytes:
        """A running count's `usage`, of one choice: a fourth key (a03_stream_usage_continuous)."""
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
            % (prompt, prompt + completion, completion)
        )


class _Frames:
    """What chat and text streams share.

    Args:
        id_: the response's id.
        created: seconds since the epoch.
        model: the model's name.
        fingerprinted: finish chunks carry the fingerprint; with usage asked for, the usage chunk does instead.
    """

    object_: bytes

    def __init__(self, id_: str, created: int, model: str, *, fingerprinted: bool) -> None:
        self._head = b'data: {"id":"%b","object":"%b","created":%d,"model":"%b","choices":[' % (
            escape(id_), self.object_, created, escape(model),
        )  # fmt: skip
        self._tail = _FINGERPRINT + b"}\n\n" if fingerprinted else b"}\n\n"

    def usage(self, usage: Usage, metrics: dict[str, Any] | None) -> bytes:
        """The closing usage event, with per-request metrics where the server has them on (k06)."""
        extra = b',"metrics":' + _json(metrics) if metrics is not None else b""
        return b"%b],%b%b%b}\n\n" % (self._head, usage.last(), _FINGERPRINT, extra)


class ChatFrames(_Frames):
    """Events of `/v1/chat/completions`."""

    object_ = b"chat.completion.chunk"

    def role(self, index: int, prompt_ids: tuple[int, ...] | None, usage: bytes) -> bytes:
        """The role event; it travels with the first token (a01_stream)."""
        ids = b"null" if prompt_ids is None else _json(prompt_ids)
        return (
            b'%b{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]%b,'
            b'"prompt_token_ids":%b,"prompt_text":null}\n\n' % (self._head, index, usage, ids)
        )

    def echo(self, index: int, text: str, usage: bytes) -> bytes:
        """The prefill, as one event without `token_ids` (a12b_stream_prefill_echo)."""
        return b'%b{"index":%d,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]%b}\n\n' % (
            self._head,
            index,
            escape(text),
            usage,
        )

    def halves(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after a plain token's JSON text: the hot path's whole event."""
        return (
            b'%b{"index":%d,"delta":{"content":"' % (self._head, index),
            b'"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n',
        )

    def content(
        self, index: int, text: str, tokens: list[Token], alternatives: int | None, usage: bytes, *, ids: bool
    ) -> bytes:
        """A piece of text with all that may be asked for beside it (a05, a15)."""
        delta = b'{"content":"%b"}' % escape(text)
        return self._event(index, delta, tokens, alternatives, b"null", usage, ids=ids)

    def finish(
        self, index: int, text: str, tokens: list[Token], alternatives: int | None, usage: bytes, *,
        reason: str, stop_reason: str | None, ids: bool,
    ) -> bytes:  # fmt: skip
        """The last event of a choice; its delta is empty where no text is left (a06, a13)."""
        delta = b'{"content":"%b"}' % escape(text) if text else b"{}"
        finish = b'"%b","stop_reason":%b' % (reason.encode(), _json(stop_reason))
        return self._event(index, delta, tokens, alternatives, finish, usage, ids=ids)

    def tool_name(self, index: int, call_id: str, name: str, usage: bytes) -> bytes:
        """The first event of a forced call: id and name (a09_stream_tool_named)."""
        call = b'{"id":"%b","type":"function","index":0,"function":{"name":"%b"}}' % (escape(call_id), escape(name))
        return self._event(index, b'{"content":null,"tool_calls":[%b]}' % call, [], None, b"null", usage, ids=False)

    def tool_arguments(self, index: int, text: str, usage: bytes) -> bytes:
        """A piece of a forced call's arguments (a09_stream_tool_named)."""
        call = b'{"index":0,"function":{"arguments":"%b"}}' % escape(text)
        return self._event(index, b'{"content":null,"tool_calls":[%b]}' % call, [], None, b"null", usage, ids=False)

    def _event(
        self, index: int, delta: bytes, tokens: list[Token], alternatives: int | None, finish: bytes, usage: bytes,
        *, ids: bool,
    ) -> bytes:  # fmt: skip
        logprobs = b"null"
        if alternatives is not None and tokens:
            logprobs = _json({"content": chat_logprobs(tokens, alternatives)})
        token_ids = _json([token.id for token in tokens]) if ids else b"null"
        tail = b"}\n\n" if finish == b"null" else self._tail
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b,"token_ids":%b}]%b%b' % (
            self._head, index, delta, logprobs, finish, token_ids, usage, tail,
        )  # fmt: skip


class TextFrames(_Frames):
    """Events of `/v1/completions`."""

    object_ = b"text_completion"

    def halves(self, index: int) -> tuple[bytes, bytes]:
        """As `ChatFrames.halves` (b07_completions_stream_usage)."""
        return (
            b'%b{"index":%d,"text":"' % (self._head, index),
            (
                b'","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
                b'"token_ids":null}]}\n\n'
            ),
        )

    def piece(
        self, index: int, text: str, tokens: list[Token], alternatives: int | None, usage: bytes, *,
        offset: int, reason: str | None, stop_reason: str | None, prompt_ids: tuple[int, ...] | None, ids: bool,
    ) -> bytes:  # fmt: skip
        """One event of a choice, the last one carrying its `reason`.

        Args:
            index: of the choice.
            text: what is new.
            tokens: the tokens that it came from.
            alternatives: how many per token, None for no log probabilities.
            usage: the running usage, or nothing.
            offset: characters of the choice before `text`.
            reason: why it ends, on its last event.
            stop_reason: the stop string that ended it.
            prompt_ids: on the first event, when token ids were asked for.
            ids: whether token ids were asked for.
        """
        logprobs: bytes = b"null"
        if alternatives is not None and tokens:
            logprobs = _json(text_logprobs(tokens, alternatives, offset))
        return (
            b'%b{"index":%d,"text":"%b","logprobs":%b,"finish_reason":%b,"stop_reason":%b,"prompt_token_ids":%b,'
            b'"token_ids":%b}]%b%b'
        ) % (
            self._head, index, escape(text), logprobs, _json(reason), _json(stop_reason), _json(prompt_ids),
            _json([token.id for token in tokens] if ids else None), usage, b"}\n\n" if reason is None else self._tail,
        )  # fmt: skip
