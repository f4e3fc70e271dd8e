"""The web client's files, read once at start and served from memory with ETags and a strict policy."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path
from typing import Final

from edge.streams.contracts import Reply
from edge.transports.http import Scope, Send, header, send_reply
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["StaticFiles"]

#: Nothing from elsewhere, nothing inline: text of a model can never become code.
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # Always asked for again, and answered by 304: an upgrade is seen at once.
    (b"cache-control", b"no-cache"),
)


class StaticFiles:
    """`/` is index.html, `/assets/<file>` everything else.

    Args:
        folder: where the files lie; they are never looked for again.
    """

    def __init__(self, folder: Path) -> None:
        self._replies: dict[str, tuple[Reply, bytes]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".py":
                name = path.relative_to(folder).as_posix()
                url = "/" if name == "index.html" else f"/assets/{name}"
                self._replies[url] = self._load(path)

    @staticmethod
    def _load(path: Path) -> tuple[Reply, bytes]:
        body = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if kind.startswith("text/") or kind in ("application/javascript", "image/svg+xml"):
            kind += "; charset=utf-8"
        etag = f'"{hashlib.blake2s(body, digest_size=12).hexdigest()}"'.encode()
        headers = (*_HEADERS, (b"etag", etag))
        return Reply(status=200, body=body, content_type=kind.encode(), headers=headers), etag

    def __contains__(self, path: str) -> bool:
        return path in self._replies

    async def serve(self, path: str, scope: Scope, send: Send) -> None:
        """Send one file.

        Raises:
            HeadraceError: NOT_FOUND.
        """
        found = self._replies.get(path)
        if found is None:
            raise HeadraceError(Code.NOT_FOUND, f"There is nothing at {path}.")
        reply, etag = found
        if header(scope, b"if-none-match") == etag:
            await send({"type": "http.response.start", "status": 304, "headers": list(reply.headers)})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await send_reply(send, reply, head=scope["method"] == "HEAD")
