"""A control with its probes in this loop, a client of it, and engines whose answers a test sets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable

import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send

from control.app import application
from control.service import Control
from control.settings import ControlSettings
from streamkit.ops.http_client import HttpClient, Response
from streamkit.wire.backend import Backend
from streamkit.wire.route import RouteAnswer
from streamkit.wire.state import EdgeReport, Header, Snapshot, SyncRequest
from tests.support.timing import FACTOR

TIMEOUT_MS = int(5_000 * FACTOR)
FAST = {"probe_interval_ms": 10, "probe_timeout_ms": TIMEOUT_MS}


class Server(uvicorn.Server):
    """uvicorn in this loop, which tells when it is up, and goes down at once."""

    def __init__(self, app: object) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, ws="none"))  # type: ignore[arg-type]
        self.up = asyncio.Event()
        self.down = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.down.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks)
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def served(app: object, before_stop: Callable[[], None] = lambda: None) -> AsyncIterator[str]:
    # asyncio sets TCP_NODELAY only where the protocol is given.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.bind(("127.0.0.1", 0))
        server = Server(app)
        task = asyncio.create_task(server.serve([sock]))
        await server.up.wait()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            before_stop()
            server.down.set()
            await task


class Engine:
    """An engine whose answers a test sets; None means silence."""

    def __init__(self, **pages: tuple[int, object] | None) -> None:
        self.pages = {f"/{path.replace('__', '/')}": page for path, page in pages.items()}
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["path"], headers.get("authorization")))
        page = self.pages.get(scope["path"], (404, {"detail": "Not Found"}))
        if page is None:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.start", "status": page[0], "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(page[1]).encode()})


def cards(*names: str) -> tuple[int, object]:
    return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}


LOADING = (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})


class Desk:
    """A client of one control."""

    def __init__(self, url: str, client: HttpClient, control: Control) -> None:
        self.url = url
        self.client = client
        self.control = control

    async def post(self, path: str, payload: object) -> Response:
        return await self.client.post_json(self.url + path, payload, timeout_ms=2 * TIMEOUT_MS)

    async def get(self, path: str) -> Response:
        return await self.client.get(self.url + path, timeout_ms=TIMEOUT_MS)

    async def route(self, model: str, **rest: object) -> RouteAnswer:
        answer = await self.post("/v1/route", {"model": model, **rest})
        assert answer.status == 200, answer.body
        return msgspec.json.decode(answer.body, type=RouteAnswer)

    async def sync(self, edge: EdgeReport, after: int = 0, wait_ms: int = 0) -> Snapshot:
        answer = await self.post("/v1/sync", SyncRequest(edge=edge, after=after, wait_ms=wait_ms))
        assert answer.status == 200, answer.body
        return msgspec.json.decode(answer.body, type=Snapshot)

    async def health(self, name: str, wanted: str) -> Snapshot:
        """Return the first snapshot in which the backend's health is `wanted`, without polling."""
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            snapshot = await self.sync(report("watch.0.1"))
            while {state.name: state.health for state in snapshot.backends}[name] != wanted:
                snapshot = await self.sync(report("watch.0.1"), snapshot.header.sequence, 30_000)
        return snapshot


def report(instance: str = "edge.0.1", sequence: int = 0, **rest: object) -> EdgeReport:
    return EdgeReport(header=Header(instance=instance, sequence=sequence), **rest)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def desk(*backends: Backend, api_keys: dict[str, str] | None = None, **settings: object) -> AsyncIterator[Desk]:
    async with HttpClient() as probing, HttpClient(max_connections=200) as client:
        control = Control(
            ControlSettings(**{**FAST, **settings}),  # type: ignore[arg-type]
            backends,
            client=probing,
            api_keys=api_keys,
        )
        async with served(application(control), control.board.close) as url:
            yield Desk(url, client, control)


def free_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def waiting(control: Desk, count: int) -> None:
    """Return once `count` syncs wait; a waiting sync shows itself nowhere else."""
    async with asyncio.timeout(TIMEOUT_MS / 1000):
        while control.control.board.waiting != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
