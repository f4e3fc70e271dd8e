"""A small service for the server's tests: `python sample_service.py '{"settle_ms": …}' READY_FILE`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.health import ops_app
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.server import Listener, run, serve

wanted = {"settle_ms": 0, "drain_ms": 5_000, "port": 0, "host": "127.0.0.1", "keep_alive_ms": 5_000, "fail": ""}
wanted |= json.loads(sys.argv[1])
lifecycle = Lifecycle(settle_ms=wanted["settle_ms"], drain_ms=wanted["drain_ms"])
feed = EventFeed()
background: list[asyncio.Task[None]] = []


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def slow(request: Request) -> PlainTextResponse:
    await asyncio.sleep(float(request.query_params["ms"]) / 1000)
    return PlainTextResponse("done")


async def endless(request: Request) -> StreamingResponse:
    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"tick\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(ticks())


async def detached(request: Request) -> PlainTextResponse:
    """Begin work that no connection shows."""

    async def work() -> None:
        await asyncio.sleep(float(request.query_params["ms"]) / 1000)
        print("detached work finished", flush=True)

    background.append(asyncio.create_task(work()))
    return PlainTextResponse("begun")


async def memory(request: Request) -> JSONResponse:
    return JSONResponse({"frozen": gc.get_freeze_count(), "threshold": gc.get_threshold()[0], "on": gc.isenabled()})


async def publish(request: Request) -> PlainTextResponse:
    feed.publish("said", {"n": 1})
    return PlainTextResponse("ok")


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    if wanted["fail"] == "start":
        raise RuntimeError("no good")
    if wanted["fail"] == "hang":
        print("hanging", flush=True)
        await asyncio.Event().wait()
    yield
    print("lifespan ended", flush=True)


async def idle() -> None:
    await asyncio.gather(*background)


async def main() -> int:
    log.configure("sample")
    lifecycle.idle = idle
    lifecycle.on_drain.append(lambda: print("drain began", flush=True))
    pages = [Route(f"/{page.__name__}", page) for page in (hello, slow, endless, detached, memory, publish)]
    return await serve(
        name="sample",
        kind="test",
        public=Listener(
            app=Starlette(routes=pages, lifespan=lifespan),
            host=wanted["host"],
            port=wanted["port"],
            keep_alive_ms=wanted["keep_alive_ms"],
        ),
        ops=Listener(app=ops_app(lifecycle, metrics=lambda: (b"# none\n", "text/plain"), feed=feed)),
        lifecycle=lifecycle,
        ready_file=sys.argv[2],
        ready_extra={"more": 1},
    )


sys.exit(run(main))
