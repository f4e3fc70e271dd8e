"""The opening handshake of a WebSocket (RFC 6455 §4), judged by `websockets`."""

from __future__ import annotations

import logging
from typing import Any, Final

from websockets.datastructures import Headers as WireHeaders
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from edge.server.refusal import Headers
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["shake_hands"]

#: The library tells of every connection at INFO; of its own faults at ERROR.
_LOG: Final = logging.getLogger("headrace.edge.websocket.wire")
_LOG.setLevel(logging.WARNING)


def shake_hands(
    scope: Any, target: bytes, *, max_message_bytes: int, subprotocol: str | None, extra: Headers
) -> tuple[ServerProtocol, bytes]:
    """Judge a handshake; return the protocol's state and the answer to write. No extension is agreed to.

    Args:
        scope: the request.
        target: its target.
        max_message_bytes: largest message, its fragments together.
        subprotocol: the one to choose; the client offered it.
        extra: headers to add to the answer.

    Raises:
        HeadraceError: INVALID_REQUEST; it says what is wrong with the handshake.
    """
    headers = WireHeaders([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
    request = Request(target.decode("latin-1"), headers, scope["method"], f"HTTP/{scope['http_version']}")
    judge = ServerProtocol(subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)], logger=_LOG)
    response = judge.accept(request)
    if response.status_code != 101:
        reason = " ".join(str(judge.handshake_exc).split()).rstrip(".") or "it is malformed"
        text = f"This is no valid WebSocket handshake: {reason}."
        raise HeadraceError(Code.INVALID_REQUEST, text, param="Upgrade")
    for name, value in extra:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    # One that has a handshake behind it: the judge's parser would wait for the request's bytes.
    return ServerProtocol(state=State.OPEN, max_size=max_message_bytes, logger=_LOG), response.serialize()
