"""Requests that offer another protocol: WebSocket is refused in clear words, any other offer is passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge.server.refusal import Headers, name_of, refusal_headers
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

__all__ = ["WEBSOCKET", "offered", "refuse_websocket", "replayed"]

WEBSOCKET: Final = b"websocket"


def offered(headers: Headers) -> bytes:
    """Return the value of `Upgrade` in lower case, or empty bytes."""
    return next((value.strip().lower() for name, value in headers if name == b"upgrade"), b"")


def replayed(headers: Headers) -> bytes:
    """Return a head that makes a fresh parser expect the same body, or empty bytes where there is none.

    The headers have passed a parser that refuses both kinds of framing at once and either kind twice.
    """
    for name, value in headers:
        if name in (b"content-length", b"transfer-encoding") and value.strip() != b"0":
            return b"POST / HTTP/1.1\r\n%b: %b\r\n\r\n" % (name, value)
    return b""


async def refuse_websocket(scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer a WebSocket handshake; the application has no such transport."""
    if scope["type"] != "http":
        raise RuntimeError("only HTTP requests come here")
    text = 'WebSocket is not served here; stream with POST /v1/chat/completions and "stream": true.'
    error = HeadraceError(Code.INVALID_REQUEST, text, param="Upgrade")
    body = error.envelope()
    headers = refusal_headers(error, body, name_of(scope["headers"]))
    await send({"type": "http.response.start", "status": error.wire.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body, "more_body": False})
