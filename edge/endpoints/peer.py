"""What other instances of the edge reach: streams and avatar sessions of this one, and nothing else."""

from __future__ import annotations

from edge.endpoints.no_avatars import is_avatar_path
from edge.endpoints.parts import Parts
from edge.endpoints.streams import STREAMS, serve_peer
from edge.transports.http import Receive, Scope, Send, error_reply, header, send_reply
from edge.transports.lifespan import serve_lifespan
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import request_id, valid_request_id

__all__ = ["PeerApp"]


class PeerApp:
    """The application behind the peer listeners.

    Its callers are trusted to have authenticated the client, which is why no client may reach it: it listens on a
    socket in a private folder, and behind certificates on both sides.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, _nothing, _nothing)
            return
        asked = header(scope, b"x-request-id").decode("latin-1")
        name = asked if valid_request_id(asked) else request_id()
        path: str = scope["path"]
        try:
            if is_avatar_path(path) and self._parts.avatars is not None:
                await self._parts.avatars.serve(name, scope, receive, send, relayed=True)
                return
            if not path.startswith(STREAMS):
                raise HeadraceError(Code.NOT_FOUND, f"There is nothing at {path} for peers.")
            if scope["method"] not in ("GET", "DELETE"):
                raise HeadraceError(Code.METHOD_NOT_ALLOWED, f"{path} takes GET and DELETE.")
            await serve_peer(self._parts, path.removeprefix(STREAMS), name, scope, receive, send)
        except HeadraceError as error:
            await send_reply(send, error_reply(error), head=scope["method"] == "HEAD")


async def _nothing() -> None:
    return
