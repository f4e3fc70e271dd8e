"""Reading requests and sending whole answers over plain ASGI: no framework stands on the token path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from edge.streams.contracts import Reply
from streamkit.flow.budget import Account
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["ClientGoneError", "Receive", "Scope", "Send", "error_reply", "header", "read_body", "send_reply"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]


class ClientGoneError(Exception):
    """The client closed its connection before its request was whole."""


def header(scope: Scope, name: bytes) -> bytes:
    """Return the first value of a header, by its lower-case name, or empty bytes."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


async def read_body(
    scope: Scope, receive: Receive, *, limit_bytes: int, account: Account, limit: str = "max_body_bytes"
) -> bytearray:
    """Return the request's body, charged to `account`; the caller releases its length.

    The declared size is judged before the first `receive`, which is what makes an `Expect: 100-continue` pay.

    Args:
        scope: the request.
        receive: brings the body.
        limit_bytes: its largest size.
        account: charged.
        limit: the setting that the limit comes from, for the message.

    Raises:
        HeadraceError: TOO_LARGE or OUT_OF_MEMORY.
        ClientGoneError: the body will never be whole.
    """
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit, limit_bytes, int(declared))
    body = bytearray()
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece = message.get("body", b"")
            if len(body) + len(piece) > limit_bytes:
                raise _too_large(limit, limit_bytes, None)
            if piece and not account.reserve(len(piece)):
                raise HeadraceError(Code.OUT_OF_MEMORY, "The gateway's memory budget is used up. Try again shortly.")
            body += piece
            if not message.get("more_body", False):
                return body
    except BaseException:
        account.release(len(body))
        raise


def _too_large(limit: str, limit_bytes: int, size: int | None) -> HeadraceError:
    what = f"The body has {size} bytes; " if size is not None else ""
    text = f"{what}the limit is {limit} = {limit_bytes}."
    return HeadraceError(Code.TOO_LARGE, text[0].upper() + text[1:], param="body")


def error_reply(error: HeadraceError) -> Reply:
    """Return an error as a whole answer."""
    return Reply(status=error.wire.status, body=error.envelope(), headers=tuple(error.headers()))


async def send_reply(send: Send, reply: Reply, extra: Iterable[Header] = (), *, head: bool = False) -> None:
    """Send a whole answer; `head` leaves the body out, as HEAD wants it."""
    headers = [*reply.headers, *extra]
    if reply.status != 204:  # which has no body, and so neither a type nor a length (RFC 9110 §8.6)
        headers[:0] = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body, "more_body": False})
