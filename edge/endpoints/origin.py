"""Which web pages may open a WebSocket (RFC 6455 §10.2).

A browser connects to any address that a page names, and no preflight asks first, so the page's origin is judged here.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from edge.protocol.cors import Cors
from edge.transports.http import Scope, header
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["check_origin"]

_PORTS = {"http": 80, "https": 443}


def check_origin(scope: Scope, cors: Cors) -> None:
    """Pass a request without an origin (no browser sent it), from our own pages, or from an allowed origin.

    Args:
        scope: the request.
        cors: knows the other origins whose pages may ask.

    Raises:
        HeadraceError: FORBIDDEN.
    """
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    if not origins:
        return
    origin = origins[0].decode("latin-1").lower()
    if len(origins) == 1 and (
        cors.allows(origin.encode("latin-1", "replace")) or _same(origin, header(scope, b"host"))
    ):
        return
    shown = origin if origin.isprintable() and len(origin) <= 256 else "unreadable"
    text = f"Pages of the origin {shown} may not connect here; edge.cors_origins lists those that may."
    raise HeadraceError(Code.FORBIDDEN, text, param="Origin")


def _same(origin: str, host: bytes) -> bool:
    """Say whether an origin is the address that was asked for; the scheme may differ behind a proxy that ends TLS."""
    try:
        parts = urlsplit(origin)
        default = _PORTS.get(parts.scheme)
        asked = urlsplit(f"//{host.decode('latin-1').lower()}")
        return (
            default is not None
            and bool(parts.hostname)
            and parts.hostname == asked.hostname
            and (parts.port or default) == (asked.port or default)
        )
    except ValueError:
        return False
