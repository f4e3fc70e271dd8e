"""The edge as one plain ASGI callable: a table of paths, and the one place where an error becomes an answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from edge.endpoints.client_tokens import PATH as CLIENT_TOKENS
from edge.endpoints.client_tokens import serve_client_tokens
from edge.endpoints.completions import serve_completion
from edge.endpoints.models import list_models, one_model
from edge.endpoints.no_avatars import is_avatar_path, serve_no_avatars
from edge.endpoints.parts import Parts
from edge.endpoints.predict import prediction
from edge.endpoints.preflight import is_preflight, serve_preflight
from edge.endpoints.streams import STREAMS, serve_stream
from edge.endpoints.websocket import PATH as SOCKET
from edge.endpoints.websocket import serve_socket
from edge.protocol.request import PATHS, Call, parse
from edge.server.upgrade import UPGRADE
from edge.transports.http import ClientGoneError, Receive, Scope, Send, error_reply, header, send_reply
from edge.transports.lifespan import serve_lifespan
from edge.transports.static import StaticFiles
from streamkit.ops import catalog
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import request_id, valid_request_id

__all__ = ["EdgeApp"]

_LOG = logging.getLogger("headrace.edge.app")
_WEB = Path(__file__).parent / "web"
#: What makes a call of a body, by path.
_OPERATIONS = {path.decode(): partial(parse, operation) for operation, path in PATHS.items()}
_PREDICT = ":predict"
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
            if not header(scope, b"x-headrace-probe"):  # a prober's findings are in no user's figures
                self._parts.metrics.counter(catalog.REFUSED, error.code.value).value += 1
            extra = [(b"x-request-id", name.encode())]
            if error.code is Code.METHOD_NOT_ALLOWED and not is_avatar_path(scope["path"]):
                extra.append((b"allow", _allowed(scope["path"]).encode()))
            if error.code is Code.TOO_LARGE:
                # The rest of the body is on its way: the connection cannot be used again.
                extra.append((b"connection", b"close"))
            await send_reply(send, error_reply(error), extra, head=scope["method"] == "HEAD")
        except ClientGoneError:
            _LOG.debug("client gone before its request was whole")

    async def _serve(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS" and is_preflight(scope):
            await serve_preflight(self._parts.cors, name, scope, send)
            return
        if path == SOCKET:
            if method != "GET":
                raise _wrong_method(method, path)
            await serve_socket(self._parts, name, scope)
            return
        if is_avatar_path(path):
            if self._parts.avatars is None:
                await serve_no_avatars(self._parts.access, name, scope, send)
            else:
                await self._parts.avatars.serve(name, scope, receive, send)
            return
        if UPGRADE in (scope.get("extensions") or {}):
            text = f"WebSocket is spoken at {SOCKET} and nowhere else."
            raise HeadraceError(Code.INVALID_REQUEST, text, param="Upgrade")
        read: Callable[[bytes], Call] | None = _OPERATIONS.get(path)
        if read is None and path.endswith(_PREDICT):
            # As it was sent: a model's name may hold a slash.
            read = prediction(scope["raw_path"].decode("latin-1"))
        if read is not None:
            if method != "POST":
                raise _wrong_method(method, path)
            await serve_completion(self._parts, read, name, scope, receive, send)
            return
        if path == _MODELS or path.startswith(_MODELS + "/"):
            if method not in ("GET", "HEAD"):
                raise _wrong_method(method, path)
            caller, state = self._parts.access.check(scope), self._parts.state
            if path == _MODELS:
                reply = list_models(state, caller.may_use)
            else:
                caller.check_model(model := path.removeprefix(_MODELS + "/"))
                reply = one_model(state, model)
            await send_reply(send, reply, [(b"x-request-id", name.encode())], head=method == "HEAD")
            return
        if path.startswith(STREAMS):
            if method not in ("GET", "DELETE"):
                raise _wrong_method(method, path)
            await serve_stream(self._parts, path.removeprefix(STREAMS), name, scope, receive, send)
            return
        if path == CLIENT_TOKENS:
            if method != "POST":
                raise _wrong_method(method, path)
            reply = await serve_client_tokens(self._parts, scope, receive)
            await send_reply(send, reply, [(b"x-request-id", name.encode())])
            return
        if path in self._files:
            if method not in ("GET", "HEAD"):
                raise _wrong_method(method, path)
            await self._files.serve(path, scope, send)
            return
        raise HeadraceError(Code.NOT_FOUND, f"There is nothing at {path}; the API is below /v1, the chat page at /.")


def _allowed(path: str) -> str:
    if path.startswith(STREAMS):
        return "GET, DELETE"
    if path == SOCKET:
        return "GET"
    posts = path in _OPERATIONS or path == CLIENT_TOKENS or path.endswith(_PREDICT)
    return "POST" if posts else "GET, HEAD"


def _wrong_method(method: str, path: str) -> HeadraceError:
    return HeadraceError(Code.METHOD_NOT_ALLOWED, f"{path} takes {_allowed(path)}, not {method}.")
