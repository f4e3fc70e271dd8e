"""Control's HTTP surface: where to, what is new, and what is there. Not one token comes through here (law 1)."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from control.holds import AilingRequest, HoldRequest
from control.listing import backend_list, model_list
from control.service import Control
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance
from streamkit.wire.route import RouteRequest
from streamkit.wire.state import SyncRequest
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["BODY_LIMIT_BYTES", "application"]

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
BODY_LIMIT_BYTES: Final = 64 * 1024
_JSON: Final = "application/json"
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD: Final = re.compile(r"(?:missing required|unknown) field `(?P<name>[^`]*)`")
_STATUS: Final = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


def application(control: Control, *, secret: str = "") -> Starlette:
    """Return the application; its lifespan runs control's probes.

    Args:
        control: what answers.
        secret: demanded as a bearer token with every request; empty = nobody is asked.
    """

    def guarded(serve: Endpoint) -> Endpoint:
        async def serve_edges(request: Request) -> Response:
            if secret:
                _check_secret(request, secret)
            return await serve(request)

        return serve_edges

    async def route(request: Request) -> Response:
        asked = await _read(request, _ROUTE, control.settings.body_timeout_ms)
        return Response(control.route(asked), media_type=_JSON)

    async def sync(request: Request) -> Response:
        asked = await _read(request, _SYNC, control.settings.body_timeout_ms)
        _check_instance(asked.edge.header.instance)
        control.counters.syncs += 1
        with control.registry.hearing(asked.edge):
            # An edge whose connection is closed must not count as live until its wait is over.
            gone = asyncio.ensure_future(_gone(request))
            try:
                await control.board.news(asked.after, asked.wait_ms, gone)
            finally:
                gone.cancel()
        return Response(control.board.encoded(), media_type=_JSON)

    async def holds(request: Request) -> Response:
        _check_no_page(request)
        control.hold(await _read(request, _HOLD, control.settings.body_timeout_ms))
        return Response(msgspec.json.encode({"holds": control.registry.holds.active}), media_type=_JSON)

    async def ailing(request: Request) -> Response:
        _check_no_page(request)
        host = control.ailing(await _read(request, _AILING, control.settings.body_timeout_ms))
        return Response(msgspec.json.encode({"host": host}), media_type=_JSON)

    async def models(_: Request) -> Response:
        return Response(msgspec.json.encode(model_list(control.board.view)), media_type=_JSON)

    async def backends(_: Request) -> Response:
        return Response(msgspec.json.encode(backend_list(control.registry)), media_type=_JSON)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with control.running():
            yield

    async def refused(_: Request, error: Exception) -> Response:
        control.counters.refused += 1
        response = _answer(_as_ours(error))
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})
        return response

    return Starlette(
        routes=[
            Route("/v1/route", guarded(route), methods=["POST"]),
            Route("/v1/sync", guarded(sync), methods=["POST"]),
            Route("/v1/holds", guarded(holds), methods=["POST"]),
            Route("/v1/ailing", guarded(ailing), methods=["POST"]),
            Route("/v1/models", guarded(models), methods=["GET"]),
            Route("/v1/backends", guarded(backends), methods=["GET"]),
        ],
        exception_handlers={
            HeadraceError: refused,
            HTTPException: refused,
            ClientDisconnect: refused,
            Exception: refused,
        },
        lifespan=lifespan,
    )


_ROUTE: Final = msgspec.json.Decoder(RouteRequest)
_SYNC: Final = msgspec.json.Decoder(SyncRequest)
_HOLD: Final = msgspec.json.Decoder(HoldRequest)
_AILING: Final = msgspec.json.Decoder(AilingRequest)


async def _read(request: Request, decoder: msgspec.json.Decoder[T], timeout_ms: int) -> T:
    """Return the request's body, decoded.

    Raises:
        HeadraceError: not JSON (415), too large (413), too slow (408), or not what is asked for (400).
    """
    kind = request.headers.get("content-type", _JSON)
    if kind.partition(";")[0].strip().lower() != _JSON:
        raise HeadraceError(Code.UNSUPPORTED_TYPE, f"the body must be {_JSON}, not {kind!r}")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > BODY_LIMIT_BYTES:
        raise _too_large(f"it has {declared}")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_LIMIT_BYTES:
                    raise _too_large("it has more")
    except TimeoutError:
        raise HeadraceError(Code.REQUEST_TIMEOUT, f"the body did not arrive within {timeout_ms} ms") from None
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except UNREADABLE as error:
        raise HeadraceError(Code.INVALID_REQUEST, f"the body is not JSON: {error}") from None


def _too_large(found: str) -> HeadraceError:
    return HeadraceError(Code.TOO_LARGE, f"the body may have {BODY_LIMIT_BYTES} bytes, {found}")


def _invalid(message: str) -> HeadraceError:
    """Return msgspec's complaint with the field at fault, as a dotted path."""
    match = _AT.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    if field := _FIELD.search(what):
        path = f"{path}.{field['name']}".lstrip(".")
    what = what.replace("`", "")
    return HeadraceError(Code.INVALID_REQUEST, f"{path}: {what}" if path else what, param=path or None)


def _check_secret(request: Request, secret: str) -> None:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode("latin-1"), secret.encode()):
        text = (
            "control is for its edges: show the secret of its edge_secret_env (an edge has it in control_secret_env)"
        )
        raise HeadraceError(Code.UNAUTHORIZED, text)


def _check_no_page(request: Request) -> None:
    """Refuse what a browser sends: where no secret is asked, a page must not act on this machine's backends."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        raise HeadraceError(Code.FORBIDDEN, "control takes acts from services, not from web pages", param="origin")


def _check_instance(text: str) -> None:
    try:
        Instance.parse(text)
    except ValueError as error:
        raise HeadraceError(Code.INVALID_REQUEST, str(error), param="edge.header.instance") from None


async def _gone(request: Request) -> object:
    """Return when the connection is closed; after the body, a server has nothing else to say."""
    return await request.receive()


def _as_ours(error: Exception) -> HeadraceError:
    match error:
        case HeadraceError():
            return error
        case HTTPException():
            code = _STATUS.get(error.status_code, Code.INVALID_REQUEST)
            allowed = (error.headers or {}).get("Allow")
            return HeadraceError(code, f"{error.detail}: allowed are {allowed}" if allowed else error.detail)
        case ClientDisconnect():
            return HeadraceError(Code.INVALID_REQUEST, "the connection was closed within the body")
        case _:
            return HeadraceError(Code.INTERNAL, "control failed to answer; see its log")


def _answer(error: HeadraceError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    if error.code in (Code.TOO_LARGE, Code.REQUEST_TIMEOUT):
        headers["connection"] = "close"
    return Response(error.envelope(), error.wire.status, headers, media_type=_JSON)
