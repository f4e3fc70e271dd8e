"""Starlette's StreamingResponse over aiohttp's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from loadtest.relay.naive.upstream import passed_on, upstream_url


@asynccontextmanager
async def _lifespan(application: Starlette) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
    ) as session:
        application.state.session = session
        yield


async def _relay(request: Request) -> StreamingResponse:
    session: aiohttp.ClientSession = request.app.state.session
    answer = await session.request(
        request.method,
        upstream_url(request.url.path),
        data=await request.body(),
        headers=passed_on(request.headers.items()),
    )
    return StreamingResponse(
        answer.content.iter_any(),
        status_code=answer.status,
        media_type=answer.headers.get("content-type"),
        background=BackgroundTask(answer.release),
    )


app = Starlette(routes=[Route("/{path:path}", _relay, methods=["GET", "POST"])], lifespan=_lifespan)
