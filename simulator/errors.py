"""vLLM's errors: `code` is a number, `type` varies, validation is 400 (captures c01-c12, e01-e11, h_*)."""

from __future__ import annotations

import http
import json
from typing import Any, Final

import msgspec

__all__ = [
    "BACKLOG",
    "BUSY",
    "EngineError",
    "bad_schema",
    "busy",
    "draining",
    "engine_dead",
    "invalid",
    "refusal",
    "too_long",
    "unauthorized",
    "unknown_model",
    "validation",
]

_BAD_REQUEST: Final = "BadRequestError"
_INTERNAL: Final = "InternalServerError"


class EngineError(Exception):
    """A refusal in the shape of vLLM.

    Args:
        message: what the engine says.
        status: HTTP status, which is also `error.code`.
        type_: `error.type`.
        param: `error.param`.
        bare: the answer lacks `vary`, having been made outside the CORS layer (k01_auth_none, h_drain_new_request).
        body: the whole body, where it has another shape.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type_: str = _BAD_REQUEST,
        param: str | None = None,
        bare: bool = False,
        body: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.bare = bare
        self._error = {"error": {"message": message, "type": type_, "param": param, "code": status}}
        self._body = body

    def body(self) -> bytes:
        """The JSON of an answer with the error's own status: compact, raw UTF-8."""
        return self._body if self._body is not None else msgspec.json.encode(self._error)

    def event(self) -> bytes:
        """The JSON of an in-band event: spaced and ASCII only, as `json.dumps` has it (c08b_bad_schema_stream)."""
        return json.dumps(self._error).encode()


#: e01_queue_overflow, e10_queued_tokens_overflow.
_RETRY_ELSEWHERE: Final = "Please try again later or on a different instance."
BUSY: Final = f"The engine is currently busy and cannot accept new requests. {_RETRY_ELSEWHERE}"
BACKLOG: Final = f"The engine has reached its prefill token backlog limit. {_RETRY_ELSEWHERE}"


def busy(message: str = BUSY) -> EngineError:
    """The queue is full; there is no Retry-After."""
    return EngineError(message, status=503, type_="Service Unavailable")


def draining() -> EngineError:
    """A new request while the process drains (h_drain_new_request)."""
    return EngineError("cannot schedule new futures after shutdown", status=500, type_=_INTERNAL, bare=True)


def engine_dead() -> EngineError:
    """The engine core is gone (h_kill_core_nonstream, h_term_api_nonstream; in-band in h_term_api_stream)."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return EngineError(message, status=500, type_=_INTERNAL)


def unauthorized() -> EngineError:
    """A missing or wrong key: the error is a string (k01_auth_none)."""
    return EngineError("Unauthorized", status=401, bare=True, body=b'{"error":"Unauthorized"}')


def unknown_model(model: str, aliases: tuple[str, ...] | None) -> EngineError:
    """404 for a model that is not served (c01_unknown_model; i06 names neither aliases nor param)."""
    message = f"The model `{model}` does not exist."
    if aliases is None:
        return EngineError(message, status=404, type_="NotFoundError")
    message += f" Valid aliases: {', '.join(aliases)}."
    return EngineError(message, status=404, type_="NotFoundError", param="model")


def invalid(message: str, param: str | None = None, value: object = None) -> EngineError:
    """A value that is well-formed and out of range: the message repeats the parameter (c04, c06)."""
    if param is not None:
        message += f" (parameter={param})" if value is None else f" (parameter={param}, value={value})"
    return EngineError(message, param=param)


def too_long(limit: int) -> EngineError:
    """The prompt alone fills the context (c05_too_long); the engine counts no further than one over."""
    return invalid(
        f"This model's maximum context length is {limit} tokens. However, your prompt contains at least "
        f"{limit + 1} input tokens, which exceeds this limit even without any output tokens. "
        "Please reduce the length of the input prompt.",
        "input_tokens",
        limit + 1,
    )


def bad_schema(message: str) -> EngineError:
    """A schema that no grammar can be made of (c08_bad_schema)."""
    return EngineError(f"Failed to transform json schema into a grammar: {message}")


def validation(faults: list[dict[str, Any]]) -> EngineError:
    """Malformed fields, as the framework lists them: `type`, `loc`, `msg`, `input`, maybe `ctx` (c02, c03, c04d)."""
    noun = "error" if len(faults) == 1 else "errors"
    lines = "".join(f"\n  {fault}" for fault in faults)
    param = faults[0]["loc"]
    return EngineError(f"{len(faults)} validation {noun}:{lines}", type_="Bad Request", param=param)


def refusal(status: int) -> EngineError:
    """The engine's error for `status`, for a directive that asks to be refused."""
    if status == 401:
        return unauthorized()
    if status == 503:
        return busy()
    if status == 500:
        return engine_dead()
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    type_ = {400: _BAD_REQUEST, 404: "NotFoundError", 422: "UnprocessableEntityError"}.get(status, phrase)
    return EngineError(f"The simulator was told to answer {status}.", status=status, type_=type_)
