"""Avatars where there are none: an empty list, so that a page need not guess."""

from __future__ import annotations

from typing import Final

from edge.endpoints.access import Access
from edge.streams.contracts import Reply
from edge.transports.http import Scope, Send, send_reply
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["is_avatar_path", "serve_no_avatars"]

_LIST: Final = "/v1/avatars"
_BELOW: Final = (_LIST + "/", "/v1/realtime/calls")


def is_avatar_path(path: str) -> bool:
    """Say whether a path is about avatars."""
    return path == _LIST or path.startswith(_BELOW)


async def serve_no_avatars(access: Access, request_id: str, scope: Scope, send: Send) -> None:
    """Answer a request about avatars.

    Raises:
        HeadraceError: METHOD_NOT_ALLOWED, NOT_FOUND, or what `Access.check` raises.
    """
    access.check(scope)
    if scope["path"] != _LIST:
        text = "No avatars are configured at this gateway (edge.avatars.compositor_url)."
        raise HeadraceError(Code.NOT_FOUND, text)
    if scope["method"] not in ("GET", "HEAD"):
        text = f"{_LIST} takes GET, HEAD, not {scope['method']}."
        raise HeadraceError(Code.METHOD_NOT_ALLOWED, text, headers=((b"allow", b"GET, HEAD"),))
    reply = Reply(status=200, body=b'{"object":"list","data":[]}')
    await send_reply(send, reply, [(b"x-request-id", request_id.encode())], head=scope["method"] == "HEAD")
