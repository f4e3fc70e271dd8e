"""Control over real sockets: probes of a scripted engine, routing, long polls, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from control.app import BODY_LIMIT_BYTES, application
from control.service import Control
from control.settings import ControlSettings
from streamkit.ops.http_client import HttpClient, Response
from streamkit.wire.backend import Backend
from streamkit.wire.keys import KeyRecord, KeySnapshot
from streamkit.wire.route import RouteAnswer
from streamkit.wire.state import EdgeReport, Header, Snapshot, SyncRequest
from tests.support.timing import FACTOR

pytestmark = pytest.mark.anyio
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


async def test_models_are_discovered_and_routed():
    engine = Engine(health=(200, ""), v1__models=cards("tiny", "other"))
    async with served(engine) as url, desk(Backend(name="gpu1", engine="vllm", url=url)) as control:
        await control.health("gpu1", "up")
        answer = await control.route("tiny")
        assert [(c.backend, c.url, c.model, c.max_inflight) for c in answer.candidates] == [
            ("gpu1", url, "tiny", 256)
        ]
        assert answer.shed is None
        assert answer.ttl_ms == 1_000
        models = json.loads((await control.get("/v1/models")).body)
        assert [model["id"] for model in models["data"]] == ["other", "tiny"]
        assert models["data"][0]["backends"] == [{"name": "gpu1", "health": "up", "simulated": False}]
        unknown = await control.route("nonesuch")
        assert unknown.shed is not None
        assert unknown.shed.code == "model_not_found"
        assert "other, tiny" in unknown.shed.message


@pytest.mark.parametrize(
    ("engine", "pages", "models"),
    [
        ("vllm", {"health": (200, ""), "v1__models": cards("m")}, ("m",)),
        ("openai", {"v1__models": cards("m")}, ("m",)),
        ("openai", {"health": (200, {"status": "ok"}), "v1__models": cards("m")}, ("m",)),
        (
            "ollama",
            {"api__version": (200, {"version": "0.9"}), "api__tags": (200, {"models": [{"name": "m:latest"}]})},
            ("m:latest",),
        ),
    ],
)
async def test_each_engine_is_asked_in_its_own_way(engine, pages, models):
    async with (
        served(Engine(**pages)) as url,
        desk(Backend(name="b", engine=engine, url=url)) as control,
    ):
        snapshot = await control.health("b", "up")
        assert snapshot.backends[0].models == models
        assert (await control.route("m")).candidates[0].model == models[0]


async def test_tensorflow_serving_is_asked_for_each_model():
    ready = (200, {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]})
    ending = (200, {"model_version_status": [{"version": "1", "state": "END"}]})
    engine = Engine(v1__models__a=ready, v1__models__b=ending)
    async with (
        served(engine) as url,
        desk(Backend(name="tf", engine="tfserving", url=url, models=("a", "b", "c"))) as control,
    ):
        snapshot = await control.health("tf", "up")
        assert snapshot.backends[0].models == ("a",)
        assert snapshot.backends[0].detail == "not available: b, c"


async def test_inference_is_up_while_its_port_answers():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with desk(Backend(name="onnx", engine="inference", url=url, models=("face",))) as control:
            await control.health("onnx", "up")
            sock.close()
            snapshot = await control.health("onnx", "down")
            assert snapshot.backends[0].detail == "cannot connect"


async def test_a_loading_engine_is_down_and_says_why():
    engine = Engine(health=LOADING, v1__models=cards("m"))
    async with (
        served(engine) as url,
        desk(Backend(name="llama", engine="openai", url=url, models=("m",))) as control,
    ):
        snapshot = await control.health("llama", "down")
        assert snapshot.backends[0].detail == "/health says 503: Loading model"
        shed = (await control.route("m")).shed
        assert shed is not None
        assert (shed.code, shed.retry_after_ms) == ("no_backend", 10)
        assert "Loading model" in shed.message
        engine.pages["/health"] = (200, {"status": "ok"})
        await control.health("llama", "up")
        assert (await control.route("m")).shed is None


async def test_a_refused_connection_takes_a_backend_down():
    async with desk(Backend(name="gone", engine="vllm", url=free_url(), models=("m",))) as control:
        snapshot = await control.health("gone", "down")
        assert snapshot.backends[0].detail == "cannot connect"


async def test_silence_takes_an_idle_backend_down_but_not_a_busy_one():
    engine = Engine(health=(200, ""), v1__models=cards("m"))
    async with (
        served(engine) as url,
        desk(
            Backend(name="b", engine="vllm", url=url, models=("m",)),
            probe_timeout_ms=20,
            down_after_failures=1,
            down_after_busy_timeouts=1_000,
        ) as control,
    ):
        await control.health("b", "up")
        seen = await control.sync(report(inflight={"b": 6}))
        engine.pages["/health"] = None
        while "in flight" not in seen.backends[0].detail:
            seen = await control.sync(report(inflight={"b": 6}), seen.header.sequence, 30_000)
        assert seen.backends[0].health == "up"
        await control.sync(report(sequence=1, inflight={}))
        snapshot = await control.health("b", "down")
        assert snapshot.backends[0].detail == "no answer in time"


async def test_the_engine_gets_its_key_and_the_edge_learns_it():
    engine = Engine(health=(200, ""), v1__models=cards("m"))
    async with (
        served(engine) as url,
        desk(Backend(name="b", engine="vllm", url=url), api_keys={"b": "s3cret"}) as control,
    ):
        await control.health("b", "up")
        assert {key for _, key in engine.asked} == {"Bearer s3cret"}
        assert (await control.route("m")).candidates[0].api_key == "s3cret"
        for page in ("/v1/backends", "/v1/models"):
            assert b"s3cret" not in (await control.get(page)).body


async def test_a_changed_key_snapshot_wakes_every_waiting_sync():
    async with desk() as control:
        first = await control.sync(report())
        waits = [asyncio.create_task(control.sync(report(), first.header.sequence, 30_000)) for _ in range(50)]
        await waiting(control, 50)
        keys = KeySnapshot(version=1, required=True, keys=(KeyRecord(id="k", sha256="00" * 32, tenant="t"),))
        control.control.registry.set_keys(keys)
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            snapshots = await asyncio.gather(*waits)
        assert {snapshot.header.sequence for snapshot in snapshots} == {first.header.sequence + 1}
        assert all(snapshot.keys == keys for snapshot in snapshots)


async def test_a_sync_without_news_waits_its_time():
    async with desk() as control:
        first = await control.sync(report())
        began = time.monotonic()
        second = await control.sync(report(sequence=1, streams=5), first.header.sequence, 60)
        assert time.monotonic() - began >= 0.05
        assert second.header.sequence == first.header.sequence
        assert second.edges[0].streams == 5


@pytest.mark.parametrize("offset", [-1_000, 1_000_000])
async def test_a_sequence_of_another_life_is_answered_at_once(offset):
    async with desk() as control:
        first = await control.sync(report())
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            again = await control.sync(report(), first.header.sequence + offset, 30_000)
        assert again.header == first.header


async def test_an_edge_is_live_while_it_waits_and_lost_after_it_left():
    async with desk(edge_lost_ms=40) as control:
        first = await control.sync(report("waiting.0.1"))
        held = asyncio.create_task(control.sync(report("waiting.0.1"), first.header.sequence, 30_000))
        await waiting(control, 1)
        quiet = await control.sync(report("quiet.0.1"))
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            await held
            # One edge holds a sync through the other's loss.
            after = await control.sync(report("waiting.0.1"), quiet.header.sequence, 30_000)
        assert [edge.header.instance for edge in after.edges] == ["waiting.0.1"]
        assert control.control.registry.live_edges == 1


async def test_a_closed_connection_ends_its_wait():
    async with desk() as control:
        first = await control.sync(report())
        _, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
        body = msgspec.json.encode(
            SyncRequest(edge=report("gone.0.1"), after=first.header.sequence + 1, wait_ms=30_000)
        )
        writer.write(b"POST /v1/sync HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await waiting(control, 1)
        writer.close()
        await writer.wait_closed()
        await waiting(control, 0)


async def test_draining_edges_have_no_share():
    backend = Backend(name="b", engine="vllm", url=free_url(), models=("m",))
    async with desk(backend, probe_interval_ms=60_000) as control:
        await control.sync(report("a.0.1"))
        await control.sync(report("b.0.1"))
        view = control.control.board.view
        assert view.live_edges == 2
        await control.sync(report("b.0.1", sequence=1, draining=True))
        assert control.control.board.view.live_edges == 1


ERRORS = [
    ("POST", "/v1/route", b'{"model":"m","priority_class":12}', 400, "priority_class", "<= 9"),
    ("POST", "/v1/route", b"{}", 400, "model", "missing required field model"),
    ("POST", "/v1/route", b'{"model":"m","prompt":"x"}', 400, "prompt", "unknown field prompt"),
    ("POST", "/v1/route", b"{nonsense", 400, None, "not JSON"),
    ("POST", "/v1/sync", b'{"edge":{"header":{"instance":"?","sequence":0}}}', 400, "edge.header.instance", "node"),
    ("POST", "/v1/sync", b'{"edge":{"header":{"sequence":0}}}', 400, "edge.header.instance", "instance"),
    ("POST", "/v1/route", b" " * (BODY_LIMIT_BYTES + 1), 413, None, "65536"),
    ("GET", "/v1/route", b"", 405, None, "POST"),
    ("GET", "/v1/nowhere", b"", 404, None, "Not Found"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "param", "words"), ERRORS)
async def test_errors_name_the_field_and_the_limit(method, path, body, status, param, words):
    async with desk() as control:
        if method == "POST":
            answer = await control.post(path, body)
        else:
            answer = await control.get(path)
        assert answer.status == status
        error = json.loads(answer.body)["error"]
        assert error["param"] == param
        assert words in error["message"]
        assert answer.headers["x-should-retry"] == "false"
        if status == 405:
            assert answer.headers["allow"] == "POST"


async def test_only_json_is_read():
    async with desk() as control:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
        writer.write(b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n")
        assert b" 415 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_body_without_end_is_cut():
    async with desk(body_timeout_ms=20) as control:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
        writer.write(b"POST /v1/route HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
