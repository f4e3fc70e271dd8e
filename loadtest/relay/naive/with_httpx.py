"""Starlette's StreamingResponse over httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from loadtest.relay.naive.upstream import passed_on, upstream_url


@asynccontextmanager
async def _lifespan(application: Starlette) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=512)
    async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:  # noqa: S113  # As they do.
        application.state.client = client
        yield


async def _relay(request: Request) -> StreamingResponse:
    client: httpx.AsyncClient = request.app.state.client
    upstream = client.build_request(
        request.method,
        upstream_url(request.url.path),
        content=await request.body(),
        headers=passed_on(request.headers.items()),
    )
    answer = await client.send(upstream, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        media_type=answer.headers.get("content-type"),
        background=BackgroundTask(answer.aclose),
    )


app = Starlette(routes=[Route("/{path:path}", _relay, methods=["GET", "POST"])], lifespan=_lifespan)
