"""The OpenAI wire format as far as a relay must know it: byte scans for streams, partial structs for requests.

The scans rest on one fact of JSON: inside a string every quote is escaped, so the bytes `"finish_reason"` can only
be a key or a whole string value, never part of a longer text.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

from streamkit.wire.events import Mark
from streamkit.wire.unreadable import UNREADABLE

__all__ = [
    "DONE",
    "CompletionRequest",
    "EmbeddingRequest",
    "ErrorBody",
    "StreamOptions",
    "Usage",
    "empty_delta",
    "error_of",
    "marks_of",
    "ordinary",
    "payload_of",
    "usage_of",
]

DONE: Final = b"data: [DONE]\n\n"

_FINISH_KEY: Final = b'"finish_reason"'
_FINISH_NULL: Final = b'"finish_reason":null'
_CHOICES_OPEN: Final = b'"choices":[{'
_DONE_EVENT: Final = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\][ \t]*[\r\n]")
#: Not the empty string, which some engines write for "not yet".
_FINISH_SET: Final = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_FINISH_ERROR: Final = re.compile(rb'"finish_reason"\s*:\s*"error"')
_ERROR_KEY: Final = re.compile(rb'[{,]\s*"error"\s*:\s*[{"]')
_CHOICES_FILLED: Final = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_USAGE_OBJECT: Final = re.compile(rb'"usage"\s*:\s*\{')
_EVENT_ERROR: Final = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")

_DELTA: Final = re.compile(rb'"delta"\s*:')
_TEXT: Final = re.compile(rb'"text"\s*:\s*"')
_EMPTY_VALUE: Final = rb'(?:""|null|\[\s*\])'
#: A delta in which nothing but the role has a value.
_EMPTY_DELTA: Final = re.compile(
    rb'"delta"\s*:\s*\{\s*+(?:(?:"role"\s*:\s*"[^"]*"|"[a-z_]+"\s*:\s*' + _EMPTY_VALUE + rb")\s*+,?+\s*+)*+\}"
)
_EMPTY_TEXT: Final = re.compile(rb'"text"\s*:\s*""')


def ordinary(data: bytes, count: int) -> bool:
    """Say whether `count` joined data events are all plain deltas: compact JSON, no finish, no usage chunk.

    A False only means that somebody must look closer (`marks_of`).
    """
    return (
        data.count(_FINISH_KEY) == count and data.count(_FINISH_NULL) == count and data.count(_CHOICES_OPEN) == count
    )


def marks_of(event: bytes) -> int:
    """Return the marks of one whole data event."""
    if _DONE_EVENT.search(event):
        return Mark.DONE
    json = _json_of(event)
    marks = 0
    if _FINISH_SET.search(json):
        marks |= Mark.FINISH
        if _FINISH_ERROR.search(json):
            marks |= Mark.ERROR
    if not _CHOICES_FILLED.search(json):
        if _ERROR_KEY.search(json) or _EVENT_ERROR.search(event):
            marks |= Mark.ERROR
        elif _USAGE_OBJECT.search(json):
            marks |= Mark.USAGE
    return marks


def empty_delta(event: bytes) -> bool:
    """Say whether an event carries nothing yet: a bare role chunk, or a delta empty in every choice.

    Such a chunk is not the first event (design §3): llama-server sends it long before a token.
    """
    json = _json_of(event)
    deltas = len(_DELTA.findall(json))
    if deltas:
        return len(_EMPTY_DELTA.findall(json)) == deltas
    texts = len(_TEXT.findall(json))
    return texts > 0 and len(_EMPTY_TEXT.findall(json)) == texts


class StreamOptions(msgspec.Struct, frozen=True):
    """The part of `stream_options` that a relay decides by."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class CompletionRequest(msgspec.Struct, frozen=True):
    """What a relay reads of a chat or text completion request; everything else passes unseen."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    stream: bool | None = False
    n: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = 1
    stream_options: StreamOptions | None = None
    #: Judged by the engine; of use here only where they are numbers.
    max_tokens: Any = None
    max_completion_tokens: Any = None


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """What a relay reads of an embedding request."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Usage(msgspec.Struct, frozen=True):
    """Token counts, as engines report them."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    total_tokens: int = 0


class _UsageChunk(msgspec.Struct, frozen=True):
    usage: Usage | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """An engine's error, whatever shape it came in."""

    message: str
    code: int | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: Any = None
    detail: Any = None
    message: Any = None


def payload_of(event: bytes) -> bytes:
    """Return the joined data lines of an event."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _json_of(event: bytes) -> bytes:
    """Return what to scan: the event as it is, or its data alone where it has further lines."""
    return event if event.count(b"\n") == 2 and event.startswith(b"data:") else payload_of(event)


def usage_of(body: bytes, *, event: bool) -> Usage | None:
    """Return the usage of a JSON body, or of an SSE event, or None where there is none that can be read."""
    try:
        return msgspec.json.decode(payload_of(body) if event else body, type=_UsageChunk).usage
    except UNREADABLE:
        return None


def error_of(body: bytes, *, event: bool) -> ErrorBody | None:
    """Return the error in a JSON body or an SSE event, in any shape that a captured engine uses, or None.

    vLLM: `{"error": {"message", "type", "param", "code": int}}`, `{"error": "Unauthorized"}`, `{"detail": …}`.
    """
    try:
        envelope = msgspec.json.decode(payload_of(body) if event else body, type=_Envelope)
    except UNREADABLE:
        return None
    found = envelope.error if envelope.error is not None else envelope.detail or envelope.message
    if isinstance(found, dict):
        code = found.get("code")
        try:
            status = int(code) if isinstance(code, int | str) else None
        except ValueError:
            status = None
        return ErrorBody(str(found.get("message") or ""), status)
    return ErrorBody(str(found)) if found is not None else None
