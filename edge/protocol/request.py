"""Reading a client's request: only what a relay decides by, with errors that name the field and the place."""

from __future__ import annotations

import enum
import re
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from edge.protocol.splice import force_usage, replace_model
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.openai import CompletionRequest, EmbeddingRequest

__all__ = ["PATHS", "PROBE", "Call", "Operation", "decoded", "parse", "unreadable"]

#: In the place of an operation in the figures of a probe.
PROBE: Final = "probe"

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_MALFORMED = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<byte>\d+)\)")


class Operation(enum.Enum):
    """What the client asks for; the value is OpenTelemetry's `gen_ai.operation.name`."""

    CHAT = "chat"
    COMPLETION = "text_completion"
    EMBEDDINGS = "embeddings"
    #: TensorFlow Serving's; its path names the model.
    PREDICT = "predict"


#: Where clients ask, and engines take it.
PATHS: Final = {
    Operation.CHAT: b"/v1/chat/completions",
    Operation.COMPLETION: b"/v1/completions",
    Operation.EMBEDDINGS: b"/v1/embeddings",
}
T = TypeVar("T")


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
    #: The longest answer that the client wants, in tokens; None = it does not say.
    max_tokens: int | None = None
    #: The client asked for usage in every chunk, which no capability covers: pass it through untouched.
    continuous_usage: bool
    #: Of a prediction: what stands behind the model in its path, `/versions/3:predict` for example.
    suffix: str = ""
    #: A prober's, and nobody's work: users' figures leave it out.
    probe: bool = False

    @property
    def label(self) -> str:
        """What figures call it."""
        return PROBE if self.probe else self.operation.value

    def path(self, model: str) -> bytes:
        """Return where one engine takes it.

        Args:
            model: the engine's name for the model.
        """
        if self.operation is Operation.PREDICT:
            return f"/v1/models/{quote(model, safe='')}{self.suffix}".encode()
        return PATHS[self.operation]

    def upstream_body(self, *, model: str, usage: bool) -> bytes:
        """Return the body for one engine: the engine's name for the model, and usage forced where wanted."""
        body = self.body
        if self.operation is Operation.PREDICT:
            return body
        if usage:
            body = force_usage(body)
        if model != self.model:
            body = replace_model(body, msgspec.json.encode(model))
        return body


def parse(operation: Operation, body: bytes, *, within: str = "") -> Call:
    """Return the call in `body`.

    Args:
        operation: what it is to be.
        body: JSON.
        within: the field that the request came in, where it is not the body of an HTTP request.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field, or the byte where the JSON breaks.
    """
    if operation is Operation.EMBEDDINGS:
        request = decoded(body, EmbeddingRequest, within=within)
        return Call(
            operation=operation,
            model=request.model,
            body=body,
            stream=False,
            n=1,
            wants_usage=False,
            continuous_usage=False,
            max_tokens=0,
        )
    completion = decoded(body, CompletionRequest, within=within)
    options = completion.stream_options
    return Call(
        operation=operation,
        model=completion.model,
        body=body,
        stream=bool(completion.stream),
        n=completion.n or 1,
        wants_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.continuous_usage_stats),
        max_tokens=_number(completion.max_completion_tokens, completion.max_tokens),
    )


def _number(*values: object) -> int | None:
    """Return the first that is a number of tokens."""
    return next((value for value in values if type(value) is int), None)


def decoded(body: bytes, type_: type[T], *, within: str = "") -> T:
    """Return a JSON body, read.

    Args:
        body: JSON.
        type_: what it should be.
        within: as in `parse`.

    Raises:
        HeadraceError: INVALID_REQUEST; names the field, or the byte where the JSON breaks.
    """
    whole = within or "body"
    if not body.strip():
        raise HeadraceError(Code.INVALID_REQUEST, f"The {whole} is empty; send a JSON object.", param=whole)
    try:
        return msgspec.json.decode(body, type=type_)
    except RecursionError:
        text = f"The {whole} is nested too deeply to be read."
        raise HeadraceError(Code.INVALID_REQUEST, text, param=whole) from None
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise unreadable(exc, whole, prefix=f"{within}." if within else "") from None


def unreadable(exc: Exception, whole: str, *, prefix: str = "") -> HeadraceError:
    """Turn the parser's message into one for a person: the field first, then what is wrong with it.

    Args:
        exc: what `msgspec` raised.
        whole: what was read: `body`, `message`, or a field.
        prefix: put before the names of fields.
    """
    text = str(exc)
    if isinstance(exc, UnicodeDecodeError):
        return HeadraceError(
            Code.INVALID_REQUEST, f"The {whole} is not UTF-8: byte {exc.start} cannot be decoded.", param=whole
        )
    if (malformed := _MALFORMED.match(text)) is not None:
        what = f"{malformed['what']} at byte {malformed['byte']}"
        return HeadraceError(Code.INVALID_REQUEST, f"The {whole} is not valid JSON: {what}.", param=whole)
    if not isinstance(exc, msgspec.ValidationError):
        return HeadraceError(Code.INVALID_REQUEST, f"The {whole} is not valid JSON: {text}.", param=whole)
    match = _AT.match(text)
    what, path = (match["what"], match["path"]) if match else (text, None)
    field = (path or "").lstrip(".")
    if missing := re.search(r"missing required field `(\w+)`", what):
        field = prefix + ".".join(filter(None, [field, missing[1]]))
        return HeadraceError(Code.INVALID_REQUEST, f"`{field}` is required.", param=field)
    if unknown := re.search(r"contains unknown field `(.*)`", what):
        field = prefix + ".".join(filter(None, [field, unknown[1]]))
        if not field:
            text = f"The {whole} has a member without a name."
            return HeadraceError(Code.INVALID_REQUEST, text, param=whole)
        return HeadraceError(Code.INVALID_REQUEST, f"`{field}` is not known here.", param=field)
    if not field:
        return HeadraceError(Code.INVALID_REQUEST, f"The {whole} must be a JSON object: {what}.", param=whole)
    return HeadraceError(Code.INVALID_REQUEST, f"`{prefix}{field}`: {what}.", param=prefix + field)
