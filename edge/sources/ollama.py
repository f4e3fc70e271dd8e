"""Ollama's own API as a dialect: `/api/chat` and `/api/generate` behind OpenAI's paths; embeddings go as they are."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from edge.protocol.ollama.answer import EventTranslator, refusal, whole
from edge.protocol.ollama.request import translate
from edge.sources.dialect import Dialect, Dialects, Splitter, openai
from edge.streams.contracts import UpstreamRequest
from streamkit.wire.backend import OllamaOptions
from streamkit.wire.ids import request_id

__all__ = ["ollama"]

_CHAT: Final = b"/v1/chat/completions"
_COMPLETIONS: Final = b"/v1/completions"


class _Model(msgspec.Struct, frozen=True):
    model: str


def ollama(options: OllamaOptions) -> Dialects:
    """Return the dialect of a backend whose operator has set `options`."""

    def dialect(request: UpstreamRequest) -> Dialect:
        if request.path in (_CHAT, _COMPLETIONS):
            return _Ollama(request, options)
        return openai(request)

    return dialect


class _Ollama:
    __slots__ = ("_asked", "_created", "_id", "_model", "body", "path")
    stream_type = b"application/x-ndjson"

    def __init__(self, request: UpstreamRequest, options: OllamaOptions) -> None:
        chat = request.path == _CHAT
        self._asked = translate(request.body, chat=chat, defaults=options)
        self._model = msgspec.json.decode(request.body, type=_Model).model
        name = next((value.decode() for key, value in request.headers if key == b"x-request-id"), "") or request_id()
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{name}"
        self._created = int(time.time())
        self.path = self._asked.path
        self.body = self._asked.body

    def splitter(self, max_event_bytes: int) -> Splitter:
        asked = self._asked
        return EventTranslator(
            chat=asked.chat,
            id_=self._id,
            created=self._created,
            model=self._model,
            usage=asked.usage,
            max_line_bytes=max_event_bytes,
        )

    def whole(self, status: int, body: bytes) -> tuple[int, bytes]:
        if status != 200:
            return refusal(status, body)
        chat = self._asked.chat
        return status, whole(body, chat=chat, id_=self._id, created=self._created, model=self._model)
