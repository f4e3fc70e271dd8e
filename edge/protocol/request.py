"""Reading a client's request: only what a relay decides by, with errors that name the field and the place."""

from __future__ import annotations

import enum
import re

import msgspec

from edge.protocol.splice import force_usage, replace_model
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import CompletionRequest, EmbeddingRequest

__all__ = ["Call", "Operation", "parse"]

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_MALFORMED = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<byte>\d+)\)")


class Operation(enum.Enum):
    """What the client asks for; the value is OpenTelemetry's `gen_ai.operation.name`."""

    CHAT = "chat"
    COMPLETION = "text_completion"
    EMBEDDINGS = "embeddings"

    @property
    def path(self) -> bytes:
        """Where engines take it."""
        return _PATHS[self]


_PATHS = {
    Operation.CHAT: b"/v1/chat/completions",
    Operation.COMPLETION: b"/v1/completions",
    Operation.EMBEDDINGS: b"/v1/embeddings",
}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the relay knows it."""

    operation: Operation
    model: str
    body: bytes
    stream: bool
    #: Choices asked for.
    n: int
    #: The client asked for the usage chunk.
    wants_usage: bool
    #: The client asked for usage in every chunk, which no capability covers: pass it through untouched.
    continuous_usage: bool

    def upstream_body(self, *, model: str, usage: bool) -> bytes:
        """Return the body for one engine: the engine's name for the model, and usage forced where wanted."""
        body = self.body
        if usage:
            body = force_usage(body)
        if model != self.model:
            body = replace_model(body, msgspec.json.encode(model))
        return body


def parse(operation: Operation, body: bytes) -> Call:
    """Return the call in `body`.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field, or the byte where the JSON breaks.
    """
    if not body.strip():
        raise HeadraceError(Code.INVALID_REQUEST, "The body is empty; send a JSON object.", param="body")
    try:
        if operation is Operation.EMBEDDINGS:
            request = msgspec.json.decode(body, type=EmbeddingRequest)
            return Call(
                operation=operation,
                model=request.model,
                body=body,
                stream=False,
                n=1,
                wants_usage=False,
                continuous_usage=False,
            )
        completion = msgspec.json.decode(body, type=CompletionRequest)
    except RecursionError:
        text = "The body is nested too deeply to be read."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="body") from None
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _refuse(exc) from None
    options = completion.stream_options
    return Call(
        operation=operation,
        model=completion.model,
        body=body,
        stream=bool(completion.stream),
        n=completion.n or 1,
        wants_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.continuous_usage_stats),
    )


def _refuse(exc: Exception) -> HeadraceError:
    """Turn the parser's message into one for a person: the field first, then what is wrong with it."""
    text = str(exc)
    if isinstance(exc, UnicodeDecodeError):
        return HeadraceError(
            Code.INVALID_REQUEST, f"The body is not UTF-8: byte {exc.start} cannot be decoded.", param="body"
        )
    if (malformed := _MALFORMED.match(text)) is not None:
        what = f"{malformed['what']} at byte {malformed['byte']}"
        return HeadraceError(Code.INVALID_REQUEST, f"The body is not valid JSON: {what}.", param="body")
    if not isinstance(exc, msgspec.ValidationError):
        return HeadraceError(Code.INVALID_REQUEST, f"The body is not valid JSON: {text}.", param="body")
    match = _AT.match(text)
    what, path = (match["what"], match["path"]) if match else (text, None)
    field = (path or "").lstrip(".")
    if missing := re.search(r"missing required field `(\w+)`", what):
        field = ".".join(filter(None, [field, missing[1]]))
        return HeadraceError(Code.INVALID_REQUEST, f"`{field}` is required.", param=field)
    if not field:
        return HeadraceError(Code.INVALID_REQUEST, f"The body must be a JSON object: {what}.", param="body")
    return HeadraceError(Code.INVALID_REQUEST, f"`{field}`: {what}.", param=field)
