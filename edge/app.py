"""The edge as one plain ASGI callable: a table of paths, and the one place where an error becomes an answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge.endpoints.completions import serve_completion
from edge.endpoints.models import list_models, one_model
from edge.endpoints.parts import Parts
from edge.protocol.request import Operation
from edge.transports.http import ClientGoneError, Receive, Scope, Send, error_reply, header, send_reply
from edge.transports.lifespan import serve_lifespan
from edge.transports.static import StaticFiles
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import request_id, valid_request_id

__all__ = ["EdgeApp"]

_LOG = logging.getLogger("headrace.edge.app")
_WEB = Path(__file__).parent / "web"
_OPERATIONS = {operation.path.decode(): operation for operation in Operation}
_MODELS = "/v1/models"


class EdgeApp:
    """The public application.

    Args:
        parts: what the endpoints need.
        start: awaited before the first request.
        stop: awaited after the last.
    """

    def __init__(
        self, parts: Parts, *, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._parts = parts
        self._start = start
        self._stop = stop
        self._files = StaticFiles(_WEB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the process's lifespan."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, self._start, self._stop)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"no transport for ASGI scope type {scope['type']!r}")
        asked = header(scope, b"x-request-id").decode("latin-1")
        name = asked if valid_request_id(asked) else request_id()
        try:
            await self._serve(name, scope, receive, send)
        except HeadraceError as error:
            extra = [(b"x-request-id", name.encode())]
            if error.code is Code.METHOD_NOT_ALLOWED:
                extra.append((b"allow", _allowed(scope["path"]).encode()))
            if error.code is Code.TOO_LARGE:
                # The rest of the body is on its way: the connection cannot be used again.
                extra.append((b"connection", b"close"))
            await send_reply(send, error_reply(error), extra, head=scope["method"] == "HEAD")
        except ClientGoneError:
            _LOG.debug("client gone before its request was whole")

    async def _serve(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        operation = _OPERATIONS.get(path)
        if operation is not None:
            if method != "POST":
                raise _wrong_method(method, path)
            await serve_completion(self._parts, operation, name, scope, receive, send)
            return
        if path == _MODELS or path.startswith(_MODELS + "/"):
            if method not in ("GET", "HEAD"):
                raise _wrong_method(method, path)
            self._parts.access.check(scope)
            state = self._parts.state
            reply = list_models(state) if path == _MODELS else one_model(state, path.removeprefix(_MODELS + "/"))
            await send_reply(send, reply, [(b"x-request-id", name.encode())], head=method == "HEAD")
            return
        if path in self._files:
            if method not in ("GET", "HEAD"):
                raise _wrong_method(method, path)
            await self._files.serve(path, scope, send)
            return
        raise HeadraceError(Code.NOT_FOUND, f"There is nothing at {path}; the API is below /v1, the chat page at /.")


def _allowed(path: str) -> str:
    return "POST" if path in _OPERATIONS else "GET, HEAD"


def _wrong_method(method: str, path: str) -> HeadraceError:
    return HeadraceError(Code.METHOD_NOT_ALLOWED, f"{path} takes {_allowed(path)}, not {method}.")
