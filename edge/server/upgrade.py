"""Requests that offer another protocol: WebSocket may be accepted, any other offer is passed over.

(Java's HttpClient offers h2c with every first request.)

An offer of WebSocket puts an `Upgrade` into `scope["extensions"]["headrace.websocket"]`. The application judges the
request as any other (path, key, origin) and refuses it by an ordinary answer, or calls `accept`, which answers 101
and hands the connection over (docs/adr/0010-websocket.md).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from edge.server.limits import SocketLimits
from edge.server.refusal import Headers
from streamkit.flow.budget import Account
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from edge.server.protocol import EdgeProtocol
    from edge.server.websocket import WebSocket

__all__ = ["UPGRADE", "WEBSOCKET", "Upgrade", "offered", "replayed"]

UPGRADE: Final = "headrace.websocket"
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


class Upgrade:
    """A client's offer to speak WebSocket.

    Args:
        http: the connection.
        target: the request's target.
    """

    def __init__(self, http: EdgeProtocol, target: bytes) -> None:
        self._http = weakref.ref(http)
        self._target = target

    def accept(
        self,
        scope: Any,
        limits: SocketLimits,
        account: Account,
        *,
        subprotocol: str | None = None,
        headers: Headers = (),
    ) -> WebSocket:
        """Answer 101 and return the open socket; the request needs no other answer.

        Args:
            scope: the request's.
            limits: of the socket.
            account: charged with what is held of messages that are not whole.
            subprotocol: the one chosen among those that the client offered.
            headers: added to the answer.

        Raises:
            HeadraceError: INVALID_REQUEST; the handshake is not what RFC 6455 asks for.
        """
        # Only now: an edge that never sees a WebSocket does not load the library.
        from edge.server.handshake import shake_hands  # noqa: PLC0415
        from edge.server.websocket import WebSocket  # noqa: PLC0415

        http = self._http()
        if http is None or http.transport.is_closing():
            raise HeadraceError(Code.INVALID_REQUEST, "The connection is not there any more.")
        state, answer = shake_hands(
            scope,
            self._target,
            max_message_bytes=limits.max_message_bytes,
            subprotocol=subprotocol,
            extra=headers,
        )
        paused, home = http.flow.write_paused, http.connections
        socket = WebSocket(http.transport, state, limits, account, paused=paused, home=home)
        socket.begin(answer, http.hand_over(socket))
        return socket
