"""The pages of the ops port: alive, ready, metrics, events. Never on the public port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from streamkit.ops.events import EventFeed, FeedFull, Subscription
from streamkit.ops.lifecycle import Lifecycle

__all__ = ["ops_app"]

_PING_S: Final = 15
_SEND_TIMEOUT_S: Final = 10


def ops_app(
    lifecycle: Lifecycle,
    *,
    metrics: Callable[[], tuple[bytes, str]],
    checks: Mapping[str, Callable[[], str | None]] | None = None,
    feed: EventFeed | None = None,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the ops port's application.

    Args:
        lifecycle: a process that is not `ready` says 503.
        metrics: gives the Prometheus text and its content type.
        checks: by name, what else readiness needs: None = fine, or a short reason why not.
        feed: served as `GET /v1/events`, and closed when the drain is over.
        routes: a service's own ops pages.
    """
    wanted = dict(checks or {})

    async def healthz(_: Request) -> Response:
        return JSONResponse({"alive": True, "state": lifecycle.state})

    async def readyz(_: Request) -> Response:
        reasons = {name: reason for name, check in wanted.items() if (reason := check()) is not None}
        if not lifecycle.ready:
            reasons["lifecycle"] = str(lifecycle.state)
        body = {"ready": not reasons, "state": lifecycle.state, "reasons": reasons}
        return JSONResponse(body, status_code=503 if reasons else 200)

    async def page(_: Request) -> Response:
        body, content_type = metrics()
        return Response(body, headers={"content-type": content_type})

    pages: list[BaseRoute] = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", page),
        *routes,
    ]
    if feed is not None:
        # Not before: what happens in a drain is told, too.
        lifecycle.on_finished.append(feed.close)
        pages.append(Route("/v1/events", _EventsPage(feed)))
    return Starlette(routes=pages)


class _EventsPage:
    """`GET /v1/events` as a plain ASGI application, so that the subscription ends with the connection."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await Response(status_code=405, headers={"allow": "GET"})(scope, receive, send)
            return
        # As browsers send it when they come back; `0` asks for all that is kept.
        sent = dict(scope["headers"]).get(b"last-event-id")
        try:
            with self._feed.subscribe(None if sent is None else sent.decode("latin-1")) as subscription:
                stream = EventSourceResponse(
                    _frames(subscription),
                    ping=_PING_S,
                    ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
                    sep="\n",
                    send_timeout=_SEND_TIMEOUT_S,
                )
                await stream(scope, receive, send)
        except FeedFull as full:
            refusal = JSONResponse({"error": str(full)}, status_code=503, headers={"retry-after": "5"})
            await refusal(scope, receive, send)
        except SendTimeoutError:
            self._feed.lose()


async def _frames(subscription: Subscription) -> AsyncIterator[ServerSentEvent]:
    async for event in subscription:
        yield ServerSentEvent(data=event.data.decode(), event=event.name, id=str(event.id), sep="\n")
