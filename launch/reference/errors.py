"""docs/reference/errors.md: the error table of `streamkit/wire/errors.py`, with what each means and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from streamkit.wire.errors import TABLE, Code, Wire

__all__ = ["errors"]

_HEAD: Final = """\
# Errors

Written by `make reference` from the table in `streamkit/wire/errors.py`: one code, one row, on every wire.

Over HTTP an error is `{"error": {"message", "type", "param", "code"}}` with the status below; `code` is the name in
the first column and `param` the field at fault, where there is one. After the answer has begun it is the same object
as the last `data:` event before `[DONE]`. On a socket it is the message `error` of its stream, and the close code
where the socket itself is at fault. gRPC services use the status in the column of that name.

**Trying again.** 408, 409, 429 and 5xx that may pass carry `Retry-After` (whole seconds), `retry-after-ms` and
`x-should-retry: true`, which both OpenAI SDKs honour; where trying again is useless, `x-should-retry: false`. The
time below is the table's own; an answer may know better, as a rate limit does. `X-Headrace-Reason: rejected-*` means
that no GPU time was spent, `evicted-*` that some was.

An engine's own 4xx about the request is none of these: it arrives as the engine wrote it.
"""

_MEANINGS: Final[dict[Code, str]] = {
    Code.INVALID_REQUEST: "Malformed, or a field has a value that nothing can be done with; `param` names it.",
    Code.UNAUTHORIZED: "No key or client token, or one that is unknown, revoked or expired.",
    Code.FORBIDDEN: "Known, but not allowed: the token's scope (models, avatars, origin), or the page's origin.",
    Code.NOT_FOUND: "Nothing at this path; or a stream that is unknown, or somebody else's.",
    Code.MODEL_NOT_FOUND: "No backend serves this model; the message lists those that are served.",
    Code.METHOD_NOT_ALLOWED: "The path takes other methods; `Allow` names them.",
    Code.NOT_ACCEPTABLE: "No codec in common with a viewer's offer.",
    Code.REQUEST_TIMEOUT: "Headers or body took longer than `header_ms` or `body_ms`.",
    Code.CONFLICT: "It contradicts what is there already.",
    Code.NOT_READY: "The avatar is being prepared; the message has the compositor's reason.",
    Code.GONE: "The stream or session is over, its edge is gone, or the event asked for is no longer kept.",
    Code.PRECONDITION_FAILED: "`If-Match` is not the ETag of the viewer's answer.",
    Code.TOO_LARGE: "The body, or a message on a socket, is larger than its limit.",
    Code.UNSUPPORTED_TYPE: "Another type of body than the path takes, or a binary message on a socket.",
    Code.UNPROCESSABLE: "A viewer's offer asks for what is not done: a second video, an ICE restart.",
    Code.PRECONDITION_REQUIRED: "`If-Match` is needed.",
    Code.HEADERS_TOO_LARGE: "URL and headers together exceed `max_header_bytes`.",
    Code.SATURATED: "All backends are full and the wait was in vain, or the line is full.",
    Code.OVER_QUOTA: "The tenant is over its rate or its streams; the retry time says when the next could begin.",
    Code.INSUFFICIENT_QUOTA: "A budget of a day or month is used up; `X-Headrace-Budget-Reset` says until when.",
    Code.EVICTED: "Somebody with a higher priority needed the place.",
    Code.NO_BACKEND: "Every backend of the model is down, or shut out by its breaker.",
    Code.NO_ROUTE: "Control has not answered yet or not for too long, or a stream's owner cannot be looked up.",
    Code.AT_CAPACITY: "No room for a further viewer or avatar session, here or at the compositor.",
    Code.DRAINING: "This instance is stopping: ask again, and another one answers.",
    Code.OUT_OF_MEMORY: "The process's `memory_bytes` has no room for it.",
    Code.BACKEND_ERROR: "The engine failed, or refused the gateway's own key, before its first event.",
    Code.BACKEND_TIMEOUT: "No event within `first_event_ms`, or no whole answer within `response_ms`.",
    Code.STREAM_BROKEN: "The engine's answer broke off after it had begun. What came before is not a whole answer.",
    Code.STREAM_STALLED: "The engine fell silent for `idle_ms` after its answer had begun.",
    Code.EVENT_TOO_LARGE: "One event of the engine exceeds `max_event_bytes`; it would again.",
    Code.SLOW_READER: "The client took nothing for `slow_reader_ms`, or gave a stream no credit for so long.",
    Code.TAKEN_OVER: "A newer reader of the same resumable stream has it now.",
    Code.STOPPED: "The stream was stopped by `DELETE`, or by another reader's stop.",
    Code.INTERNAL: "A bug of ours; the log has the request id.",
}


def errors() -> str:
    """Return the page.

    Raises:
        LookupError: a code has no meaning written here.
    """
    missing = [code.value for code in TABLE if code not in _MEANINGS]
    if missing:
        raise LookupError(f"say in launch/reference/errors.py what it means: {', '.join(missing)}")
    return "\n".join([_HEAD, *_table()]) + "\n"


def _table() -> Iterator[str]:
    yield "| code | HTTP | socket | gRPC | `error.type` | try again | reason | what happened |"
    yield "|---|---|---|---|---|---|---|---|"
    for code, wire in TABLE.items():
        yield (
            f"| `{code.value}` | {wire.status} | {wire.ws_close} | {wire.grpc} | `{wire.type}` | {_again(wire)}"
            f" | {f'`{wire.reason}`' if wire.reason else ''} | {_MEANINGS[code]} |"
        )


def _again(wire: Wire) -> str:
    if wire.retry_after_ms is None:
        return "no"
    return "at once" if wire.retry_after_ms == 0 else f"after {wire.retry_after_ms / 1000:g} s"
