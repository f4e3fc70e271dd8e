"""`OPTIONS` from a browser that asks whether a page of another origin may send its request (Fetch standard, §3.3)."""

from __future__ import annotations

from edge.protocol.cors import Cors
from edge.transports.http import Scope, Send, header
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["is_preflight", "serve_preflight"]

_SHOWN_CHARS = 200
_ASKED_HEADERS = b"access-control-request-headers"


def is_preflight(scope: Scope) -> bool:
    """Say whether a browser asks on a page's behalf; any other OPTIONS is a method that nothing here takes."""
    return bool(
        scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") and header(scope, b"origin")
    )


async def serve_preflight(cors: Cors, request_id: str, scope: Scope, send: Send) -> None:
    """Answer; no key is looked at, because browsers send none here.

    Raises:
        HeadraceError: FORBIDDEN; pages of that origin may not ask.
    """
    origin = header(scope, b"origin")
    if not cors.allows(origin):
        shown = origin[:_SHOWN_CHARS].decode("latin-1")
        text = f"Pages of {shown} may not ask here; edge.cors_origins lists those that may."
        raise HeadraceError(Code.FORBIDDEN, text, param="Origin")
    headers = [(b"x-request-id", request_id.encode()), *cors.preflight(header(scope, _ASKED_HEADERS))]
    # 204 has no body, and so neither a type nor a length (RFC 9110 §8.6).
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
