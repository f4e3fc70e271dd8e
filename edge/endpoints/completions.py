"""Completions, embeddings and predictions over HTTP: read the request, admit it, deliver its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic

import msgspec

from edge.endpoints.admission import Asked, admit, window_of
from edge.endpoints.parts import Parts
from edge.endpoints.probes import pin_of
from edge.protocol.request import Call
from edge.transports.http import Receive, Scope, Send, header, read_body
from edge.transports.sse import deliver
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["serve_completion"]

_JSON = re.compile(rb"application/(?:[\w.+-]*\+)?json\s*(?:;|$)", re.IGNORECASE)
_SESSION = re.compile(r"[\x21-\x7e]{0,256}")
#: Forwarded to engines as they came: W3C trace context.
_FORWARDED = (b"traceparent", b"tracestate")


async def serve_completion(
    parts: Parts, read: Callable[[bytes], Call], request_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve one request to its end.

    Args:
        parts: the edge.
        read: makes the call of a body.
        request_id: of this request.
        scope: ASGI's, as are `receive` and `send`.
        receive: brings the body, and the client's end.
        send: takes the answer.

    Raises:
        HeadraceError: refused before a backend was asked; nothing has been sent.
        ClientGoneError: the request never became whole.
    """
    caller = parts.access.check(scope)
    _check_kind(scope)
    session = _session(scope)
    pin = pin_of(header(scope, b"x-headrace-probe").decode("latin-1"), caller)
    call, began = await _read_call(parts, read, scope, receive)
    try:
        window_s = window_of(parts, header(scope, b"x-headrace-resume").decode("latin-1"), stream=call.stream)
    except HeadraceError:
        parts.bodies.release(len(call.body))
        raise
    asked = Asked(
        request_id=request_id,
        caller=caller,
        transport="sse" if call.stream else "json",
        began=began,
        session=session,
        sim=header(scope, b"x-sim"),
        forwarded=tuple((name, value) for name in _FORWARDED if (value := header(scope, name))),
        window_s=window_s,
        pin=pin,
    )
    if pin:
        call = msgspec.structs.replace(call, probe=True)
    admitted = await admit(parts, call, asked)
    try:
        await deliver(
            admitted.reader,
            scope,
            receive,
            send,
            begin=admitted.start,
            headers=admitted.headers,
            high_bytes=parts.write_high_bytes,
        )
    finally:
        admitted.leave()


def _check_kind(scope: Scope) -> None:
    kind = header(scope, b"content-type")
    if _JSON.match(kind) is None:
        # Also what keeps a foreign web page out: a browser asks first (CORS) before it sends this type.
        said = kind.decode("latin-1") or "nothing"
        text = f"Send JSON with `Content-Type: application/json`; this request says {said}."
        raise HeadraceError(Code.UNSUPPORTED_TYPE, text, param="Content-Type")


def _session(scope: Scope) -> str:
    session = header(scope, b"x-headrace-session").decode("latin-1")
    if _SESSION.fullmatch(session) is None:
        text = "`X-Headrace-Session` must be at most 256 visible ASCII characters."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="X-Headrace-Session")
    return session


async def _read_call(
    parts: Parts, read: Callable[[bytes], Call], scope: Scope, receive: Receive
) -> tuple[Call, float]:
    """Return the call, its body charged to `parts.bodies`, and when it was whole."""
    body = await read_body(scope, receive, limit_bytes=parts.max_body_bytes, account=parts.bodies)
    began = monotonic()
    try:
        return read(bytes(body)), began
    except BaseException:
        parts.bodies.release(len(body))
        raise
