"""The ASGI lifespan: start before the first request, stop after the last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from edge.transports.http import Receive, Send

__all__ = ["serve_lifespan"]


async def serve_lifespan(
    receive: Receive, send: Send, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
) -> None:
    """Answer the lifespan protocol; a failure in `start` is raised, and the server tells of it."""
    await receive()
    await start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await stop()
    await send({"type": "lifespan.shutdown.complete"})
