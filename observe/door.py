"""The page of the observability centre, on loopback: what was used, and how the paths are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from observe.counting import Counting
from observe.spans import HOUR_MS
from observe.tally import Tally
from observe.usage import BY, By, Row, added_up
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["door"]

_JSON: Final = "application/json"
_YEAR_MS: Final = 400 * 24 * HOUR_MS
Endpoint = Callable[[Request], Awaitable[Response]]


def door(counting: Counting | None, tally: Tally | None, paths: Callable[[], object]) -> Starlette:
    """Return the application.

    Args:
        counting: keeps the tally's thread; None = nothing is counted here.
        tally: what was counted.
        paths: returns how the probed paths are.
    """

    async def usage(request: Request) -> Response:
        if counting is None or tally is None:
            text = "usage is not counted here: ask at the hub, or set observe.tally"
            raise HeadraceError(Code.NOT_FOUND, text)
        since_ms, by = _since(request), _by(request)
        now_ms = int(time() * 1000)
        since, until = (now_ms - since_ms) // HOUR_MS, now_ms // HOUR_MS + 1

        def found() -> list[Row]:
            return added_up(tally.hourly(since, until), tally.leased(since, until, now_ms), by)

        rows = await counting.on_thread(found)
        body = {"since_ms": since * HOUR_MS, "until_ms": now_ms, "by": by, "behind": counting.behind, "rows": rows}
        return Response(msgspec.json.encode(body), media_type=_JSON)

    async def how(_: Request) -> Response:
        return Response(msgspec.json.encode(paths()), media_type=_JSON)

    async def refused(_: Request, error: Exception) -> Response:
        ours = error if isinstance(error, HeadraceError) else HeadraceError(Code.INTERNAL, "see the log of observe")
        return Response(ours.envelope(), ours.wire.status, media_type=_JSON)

    return Starlette(
        routes=[Route("/v1/usage", usage), Route("/v1/paths", how)],
        exception_handlers={HeadraceError: refused},
    )


def _since(request: Request) -> int:
    text = request.query_params.get("since_ms", str(24 * HOUR_MS))
    if not text.isdecimal() or not 0 < int(text) <= _YEAR_MS:
        raise HeadraceError(Code.INVALID_REQUEST, f"`since_ms` must be 1 to {_YEAR_MS}.", param="since_ms")
    return int(text)


def _by(request: Request) -> tuple[By, ...]:
    names = set(request.query_params.get("by", "tenant,key,model").split(","))
    if not names <= set(BY):
        raise HeadraceError(Code.INVALID_REQUEST, f"`by` must be of {', '.join(BY)}, with commas.", param="by")
    return tuple(name for name in BY if name in names)
