"""The one tree of errors and the one table from an error to its wire forms.

    HeadraceError                what a caller may be told; carries its `Code`
    └── (no subclasses)          the code *is* the class: `HeadraceError(Code.SATURATED, ...)`

The table gives, for each code, the HTTP status, the WebSocket close code, the gRPC status name, the OpenAI
`type`, the retry advice and the `X-Headrace-Reason` prefix. Retry headers follow what the OpenAI SDKs honour:
`retry-after-ms`, `Retry-After` in whole seconds, `x-should-retry`.
"""

from __future__ import annotations

import enum
import json
from typing import Final, NamedTuple

__all__ = ["BAD_INPUT", "Code", "HeadraceError", "Wire", "envelope", "error_frame"]


class Code(enum.StrEnum):
    """Stable names of everything that can go wrong in sight of a client."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    NOT_READY = "not_ready"
    GONE = "gone"
    PRECONDITION_FAILED = "precondition_failed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TYPE = "unsupported_media_type"
    UNPROCESSABLE = "unprocessable"
    PRECONDITION_REQUIRED = "precondition_required"
    HEADERS_TOO_LARGE = "headers_too_large"
    SATURATED = "saturated"
    OVER_QUOTA = "over_quota"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    EVICTED = "evicted"
    NO_BACKEND = "no_backend"
    NO_ROUTE = "no_route"
    AT_CAPACITY = "at_capacity"
    DRAINING = "draining"
    OUT_OF_MEMORY = "out_of_memory"
    BACKEND_ERROR = "backend_error"
    BACKEND_TIMEOUT = "backend_timeout"
    STREAM_BROKEN = "stream_broken"
    STREAM_STALLED = "stream_stalled"
    EVENT_TOO_LARGE = "event_too_large"
    SLOW_READER = "slow_reader"
    TAKEN_OVER = "taken_over"
    STOPPED = "stopped"
    INTERNAL = "internal"


class Wire(NamedTuple):
    """One row of the table."""

    status: int  #: HTTP status (RFC 9110); 429 saturated or over quota, 503 no backend or draining
    ws_close: int  #: WebSocket close code; 4000 + status in the private range (RFC 6455 §7.4.2), or a standard one
    grpc: str  #: gRPC status name
    type: str  #: OpenAI `error.type`
    retry_after_ms: int | None  #: advice for the client; None means that a retry is useless
    reason: str | None  #: `X-Headrace-Reason`: `rejected-*` spent no GPU work, `evicted-*` did


_INVALID = "invalid_request_error"
_SERVER = "server_error"

TABLE: Final[dict[Code, Wire]] = {
    Code.INVALID_REQUEST: Wire(400, 4400, "INVALID_ARGUMENT", _INVALID, None, None),
    Code.UNAUTHORIZED: Wire(401, 4401, "UNAUTHENTICATED", "authentication_error", None, None),
    Code.FORBIDDEN: Wire(403, 4403, "PERMISSION_DENIED", "permission_error", None, None),
    Code.NOT_FOUND: Wire(404, 4404, "NOT_FOUND", _INVALID, None, None),
    Code.MODEL_NOT_FOUND: Wire(404, 4404, "NOT_FOUND", _INVALID, None, None),
    Code.METHOD_NOT_ALLOWED: Wire(405, 4405, "UNIMPLEMENTED", _INVALID, None, None),
    Code.NOT_ACCEPTABLE: Wire(406, 4406, "INVALID_ARGUMENT", _INVALID, None, None),
    Code.REQUEST_TIMEOUT: Wire(408, 4408, "DEADLINE_EXCEEDED", _INVALID, 0, None),
    Code.CONFLICT: Wire(409, 4409, "ABORTED", _INVALID, None, None),
    Code.NOT_READY: Wire(409, 4409, "FAILED_PRECONDITION", _SERVER, 2000, "rejected-not-ready"),
    Code.GONE: Wire(410, 4410, "NOT_FOUND", _INVALID, None, None),
    Code.PRECONDITION_FAILED: Wire(412, 4412, "FAILED_PRECONDITION", _INVALID, None, None),
    Code.TOO_LARGE: Wire(413, 1009, "OUT_OF_RANGE", _INVALID, None, None),
    Code.UNSUPPORTED_TYPE: Wire(415, 1003, "INVALID_ARGUMENT", _INVALID, None, None),
    Code.UNPROCESSABLE: Wire(422, 4422, "INVALID_ARGUMENT", _INVALID, None, None),
    Code.PRECONDITION_REQUIRED: Wire(428, 4428, "FAILED_PRECONDITION", _INVALID, None, None),
    Code.HEADERS_TOO_LARGE: Wire(431, 1009, "OUT_OF_RANGE", _INVALID, None, None),
    Code.SATURATED: Wire(429, 4429, "RESOURCE_EXHAUSTED", "rate_limit_error", 1000, "rejected-saturated"),
    Code.OVER_QUOTA: Wire(429, 4429, "RESOURCE_EXHAUSTED", "rate_limit_error", 1000, "rejected-quota"),
    # Trying again is useless until the budget begins anew, which may be days away; the error says when.
    Code.INSUFFICIENT_QUOTA: Wire(429, 4429, "RESOURCE_EXHAUSTED", "insufficient_quota", None, "rejected-budget"),
    Code.EVICTED: Wire(503, 4503, "ABORTED", _SERVER, 1000, "evicted-priority"),
    Code.NO_BACKEND: Wire(503, 4503, "UNAVAILABLE", _SERVER, 2000, "rejected-no-backend"),
    Code.NO_ROUTE: Wire(503, 4503, "UNAVAILABLE", _SERVER, 2000, "rejected-no-route"),
    Code.AT_CAPACITY: Wire(503, 4503, "RESOURCE_EXHAUSTED", _SERVER, 2000, "rejected-capacity"),
    Code.DRAINING: Wire(503, 1012, "UNAVAILABLE", _SERVER, 1000, "rejected-draining"),
    Code.OUT_OF_MEMORY: Wire(503, 1013, "RESOURCE_EXHAUSTED", _SERVER, 1000, "rejected-memory"),
    Code.BACKEND_ERROR: Wire(502, 4502, "UNAVAILABLE", _SERVER, 1000, None),
    Code.BACKEND_TIMEOUT: Wire(504, 4504, "DEADLINE_EXCEEDED", _SERVER, 1000, None),
    Code.STREAM_BROKEN: Wire(502, 4502, "DATA_LOSS", _SERVER, 0, None),
    Code.STREAM_STALLED: Wire(504, 4504, "DEADLINE_EXCEEDED", _SERVER, 0, None),
    Code.EVENT_TOO_LARGE: Wire(502, 4502, "DATA_LOSS", _SERVER, None, None),
    Code.SLOW_READER: Wire(408, 4408, "ABORTED", _INVALID, None, None),
    Code.TAKEN_OVER: Wire(409, 4409, "ABORTED", _INVALID, None, None),
    Code.STOPPED: Wire(409, 4409, "CANCELLED", _INVALID, None, None),
    Code.INTERNAL: Wire(500, 1011, "INTERNAL", _SERVER, 1000, None),
}

#: Codes that say the request itself is at fault: never retried, never counted against a backend.
BAD_INPUT: Final = frozenset(
    code for code, wire in TABLE.items() if 400 <= wire.status < 500 and wire.status not in (408, 429)
)


class HeadraceError(Exception):
    """An error that a client may see.

    Args:
        code: which row of the table.
        message: one sentence for a person: what happened and, where one can, what to do next.
        param: the request field at fault, as OpenAI's `error.param`.
        retry_after_ms: overrides the table's advice, in milliseconds.
        headers: of an HTTP answer, beside those of the table.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        param: str | None = None,
        retry_after_ms: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self._headers = headers
        self.retry_after_ms = TABLE[code].retry_after_ms if retry_after_ms is None else retry_after_ms

    @property
    def wire(self) -> Wire:
        """The error's row of the table."""
        return TABLE[self.code]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Retry advice and the shed reason as HTTP headers (facts: streaming-conventions §5.3)."""
        wire = self.wire
        headers = list(self._headers)
        if wire.reason is not None:
            headers.append((b"x-headrace-reason", wire.reason.encode()))
        if self.retry_after_ms is None:
            headers.append((b"x-should-retry", b"false"))
        elif wire.status in (408, 409, 429) or wire.status >= 500:
            seconds = -(-self.retry_after_ms // 1000)
            headers.append((b"retry-after", b"%d" % seconds))
            headers.append((b"retry-after-ms", b"%d" % self.retry_after_ms))
            headers.append((b"x-should-retry", b"true"))
        return headers

    def envelope(self) -> bytes:
        """The OpenAI error body, as JSON bytes."""
        return envelope(self.message, type_=self.wire.type, param=self.param, code=self.code.value)

    def frame(self) -> bytes:
        """The in-band form for a stream that has begun: one SSE data event."""
        return error_frame(self.envelope())


def envelope(message: str, *, type_: str, param: str | None, code: str | int | None) -> bytes:
    """Return `{"error": {...}}` as JSON bytes, the shape that both OpenAI SDKs read."""
    body = {"error": {"message": message, "type": type_, "param": param, "code": code}}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def error_frame(body: bytes) -> bytes:
    """Return an envelope as one SSE data event."""
    return b"data: " + body + b"\n\n"
