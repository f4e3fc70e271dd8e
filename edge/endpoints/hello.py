"""Who opened a socket: what of its handshake each stream is judged by."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

import msgspec

from edge.endpoints.access import Access, Caller, origin_of
from edge.transports.http import Scope, header
from streamkit.wire.tokens import PREFIX as TOKEN

__all__ = ["SUBPROTOCOL", "Hello", "hello_of"]

#: The one that we speak; a browser that offers its key as another must be given one of those that it offered.
SUBPROTOCOL: Final = "headrace.v1"
#: A browser cannot send headers with a handshake; what it can send is a list of subprotocols.
_CREDENTIAL: Final = "headrace.key."
_FORWARDED: Final = (b"traceparent", b"tracestate")


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """One handshake."""

    #: Key or client token; empty = none.
    credential: bytes
    #: Of the page that connects; empty = no browser.
    origin: bytes
    #: As `X-Headrace-Priority`.
    priority: bytes
    #: Headers that engines get as they came.
    forwarded: tuple[tuple[bytes, bytes], ...]
    #: The subprotocol to choose.
    subprotocol: str | None

    def caller(self, access: Access, priority: int | None = None) -> Caller:
        """Return who asks, judged anew: a key may have been revoked, and a token may have expired.

        Raises:
            HeadraceError: see `Access.admit`.
        """
        wanted = self.priority if priority is None else b"%d" % priority
        return access.admit(self.credential, origin=self.origin, priority=wanted)


def hello_of(scope: Scope) -> Hello:
    """Read a handshake. A credential stands in `Authorization`, in a subprotocol, or, if it is a token, in `?token=`.

    A key in an address would end up in the logs of every proxy on the way.
    """
    lines = (value.decode("latin-1") for name, value in scope["headers"] if name == b"sec-websocket-protocol")
    offered = [word.strip() for line in lines for word in line.split(",")]
    scheme, _, credential = header(scope, b"authorization").partition(b" ")
    credential = credential.strip() if scheme.lower() == b"bearer" else b""
    if not credential:
        shown = next((word for word in offered if word.startswith(_CREDENTIAL)), "")
        credential = shown.removeprefix(_CREDENTIAL).encode("latin-1")
    if not credential:
        token = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))).get("token", "")
        credential = token.encode() if token.startswith(TOKEN) else b""
    return Hello(
        credential=credential,
        origin=origin_of(scope),
        priority=header(scope, b"x-headrace-priority"),
        forwarded=tuple((name, value) for name in _FORWARDED if (value := header(scope, name))),
        subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None,
    )
