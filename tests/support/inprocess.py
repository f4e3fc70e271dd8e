"""A real edge inside the test's own event loop, between a scripted control and a scripted engine on real sockets.

The edge is the one that `edge.run` composes, served by `streamkit.ops.server` with our protocol class; nothing of it
is replaced. What stands around it is small enough to be exact: the engine sends the bytes that the script says, when
it says so, and tells when its connection was closed.

    async def script(exchange):
        await exchange.stream(chunk("Hel"), chunk("lo"), finish(), DONE)

    async with running_edge(script) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post({"model": MODEL, "stream": True}))
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Self, cast

import msgspec

from edge.endpoints.parts import Parts
from edge.run import Edge, composed
from edge.server.protocol import EdgeProtocol
from edge.settings import EdgeSettings
from streamkit.ops import catalog
from streamkit.wire.backend import Capabilities
from streamkit.wire.keys import KeySnapshot
from streamkit.wire.route import Candidate, RouteAnswer, Shed
from streamkit.wire.state import BackendState, Header, Snapshot
from tests.support.timing import FACTOR

__all__ = [
    "DONE",
    "MODEL",
    "Engine",
    "RunningEdge",
    "ScriptedControl",
    "ScriptedExchange",
    "chunk",
    "finish",
    "running_edge",
    "until",
]

MODEL = "m"
DONE = b"data: [DONE]\n\n"
Script = Callable[["ScriptedExchange"], Awaitable[None]]
_DEADLINE_S = 10.0 * FACTOR
_POLL_S = 0.002
#: Kept, so that a test that counts decodes does not count ours.
_loads = json.loads


async def until(true: Callable[[], object], what: str = "", *, within_s: float = _DEADLINE_S) -> None:
    """Return once `true()` is; AssertionError if it is not in time."""
    end = monotonic() + within_s
    while not true():
        assert monotonic() < end, f"not within {within_s:g} s: {what or true}"
        await asyncio.sleep(_POLL_S)


def chunk(text: str, **members: Any) -> bytes:
    """Return one chat completion chunk as an SSE event, in vLLM's compact form."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **members}
    return _event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})


def finish(reason: str = "stop") -> bytes:
    """Return the chunk that carries the finish_reason."""
    return chunk("", delta={}, finish_reason=reason)


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


class ScriptedExchange:
    """One request at the engine, and the engine's side of its answer."""

    def __init__(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        self._transport = transport
        line, *fields = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = line.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self.body = body
        #: Set when the edge closed the connection or its half of it.
        self.closed = asyncio.Event()
        self.closed_at = 0.0
        #: Bytes handed to the kernel, headers included.
        self.sent_bytes = 0
        self._chunked = False
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def json(self) -> Any:
        """The request's body as JSON."""
        return _loads(self.body)

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are, in one write; returns when the kernel has taken them.

        Raises:
            ConnectionResetError: the edge has closed; a script that does not catch it just ends.
        """
        if self.closed.is_set():
            raise ConnectionResetError
        self._transport.write(data)
        await self._writable.wait()
        self.sent_bytes += len(data)

    async def head(self, status: int = 200, content_type: str = "text/event-stream", **fields: str) -> None:
        """Send status and headers, for a chunked body unless a `content_length` is given."""
        lines = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in fields.items()}}
        if "content-length" not in lines:
            lines["transfer-encoding"] = "chunked"
            self._chunked = True
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self.raw(f"HTTP/1.1 {status} Scripted\r\n{text}\r\n".encode())

    async def send(self, data: bytes) -> None:
        """Send a piece of the body: one HTTP chunk, one write."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """End a chunked body."""
        await self.raw(b"0\r\n\r\n")

    async def stream(self, *events: bytes) -> None:
        """Send a whole event stream, an event to a write."""
        await self.head()
        for event in events:
            await self.send(event)
        await self.end()

    async def answer(self, payload: object, status: int = 200) -> None:
        """Send a whole JSON answer."""
        body = json.dumps(payload).encode()
        await self.head(status, "application/json", content_length=str(len(body)))
        await self.raw(body)

    def cut(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    # For the connection.

    def lost(self) -> None:
        """The edge has closed."""
        if not self.closed.is_set():
            self.closed_at = monotonic()
            self.closed.set()
        self._writable.set()

    def writable(self, yes: bool) -> None:
        """The kernel takes more, or does not."""
        if yes:
            self._writable.set()
        else:
            self._writable.clear()


class _EngineConnection(asyncio.Protocol):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read = bytearray()
        self._transport: asyncio.Transport | None = None
        self._exchange: ScriptedExchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._engine.connections += 1
        self._engine.transports.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, mark, rest = bytes(self._read).partition(b"\r\n\r\n")
        if not mark or self._transport is None:
            return
        length = next(
            int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        if len(rest) >= length:
            del self._read[: len(head) + 4 + length]
            self._exchange = ScriptedExchange(self._transport, head, rest[:length])
            self._engine.begin(self._exchange)

    def eof_received(self) -> None:
        if self._exchange is not None:
            self._exchange.lost()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._engine.transports.discard(self._transport)
        if self._exchange is not None:
            self._exchange.lost()

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.writable(False)

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.writable(True)


class Engine:
    """A server that answers every request by running `script`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        #: Every request so far.
        self.exchanges: list[ScriptedExchange] = []
        self.connections = 0
        self.transports: set[asyncio.Transport] = set()
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: list[BaseException] = []

    @property
    def last(self) -> ScriptedExchange:
        """The newest request."""
        return self.exchanges[-1]

    async def asked(self, count: int = 1) -> ScriptedExchange:
        """Wait for the `count`th request and return it."""
        await until(lambda: len(self.exchanges) >= count, f"request {count} at the engine")
        return self.exchanges[count - 1]

    def begin(self, exchange: ScriptedExchange) -> None:
        """Run the script for one request."""
        self.exchanges.append(exchange)
        task = asyncio.get_running_loop().create_task(self._run(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Self:
        # A small send buffer, inherited by accepted sockets: what the engine counts as sent has nearly all left.
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024)
        self._server = await asyncio.get_running_loop().create_server(lambda: _EngineConnection(self), sock=listening)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for transport in list(self.transports):
            transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not self.transports, "the engine's connections are closed")
        if self._failed:
            raise self._failed[0]

    async def _run(self, exchange: ScriptedExchange) -> None:
        try:
            await self.script(exchange)
        except ConnectionResetError:
            if not exchange.closed.is_set():
                raise
        except Exception as exc:  # noqa: BLE001 - told when the engine stops, not lost in a task
            self._failed.append(exc)


class ScriptedControl(Engine):
    """Answers every route question by `answer`, and every sync with `snapshot`."""

    def __init__(self, answer: RouteAnswer, snapshot: Snapshot) -> None:
        super().__init__(self._serve)
        self.answer = answer
        self.snapshot = snapshot
        #: Route answers wait while it is clear.
        self.answering = asyncio.Event()
        self.answering.set()
        self.routes = 0
        self._changed = asyncio.Event()

    def publish(self, snapshot: Snapshot) -> None:
        """Give the edge a new snapshot; its header gets the next sequence."""
        header = msgspec.structs.replace(self.snapshot.header, sequence=self.snapshot.header.sequence + 1)
        self.snapshot = msgspec.structs.replace(snapshot, header=header)
        self._changed.set()

    async def _serve(self, exchange: ScriptedExchange) -> None:
        if exchange.path == "/v1/route":
            self.routes += 1
            await self.answering.wait()
            await exchange.answer(msgspec.to_builtins(self.answer))
            return
        asked = exchange.json
        if asked["after"] == self.snapshot.header.sequence:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(asked["wait_ms"] / 1000):
                    await self._changed.wait()
        self._changed.clear()
        await exchange.answer(msgspec.to_builtins(self.snapshot))


@dataclass
class RunningEdge:
    """What a test reaches."""

    url: str
    ops_url: str
    edge: Edge
    engines: list[Engine]
    control: ScriptedControl
    #: The public port's open connections.
    connections: set[EdgeProtocol]

    @property
    def parts(self) -> Parts:
        """The composition: metrics, streams, backends."""
        return self.edge.parts

    @property
    def engine(self) -> Engine:
        """The first engine, for tests that have one."""
        return self.engines[0]

    @property
    def inflight(self) -> int:
        """Permits held at all backends."""
        return sum(self.parts.backends.inflight_by_name().values())

    @property
    def idle(self) -> bool:
        """Nothing is held for any request."""
        parts = self.parts
        return not (
            parts.streams.count or self.inflight or parts.bodies.used_bytes or parts.sockets.frames.used_bytes
        )

    async def quiet(self, *, within_s: float = _DEADLINE_S) -> None:
        """Wait until permits, open streams and request bodies are back to nothing."""
        await until(lambda: self.idle, "permits, streams and bodies are given back", within_s=within_s)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series that have these labels, from the exposition."""
        family = re.sub("_(total|count|sum|bucket)$", "", name)
        assert any(metric.name in (name, family) for metric in catalog.CATALOG), f"there is no metric {name}"
        total = 0.0
        for line in self.parts.metrics.exposition()[0].decode().splitlines():
            series, _, value = line.rpartition(" ")
            found, _, rest = series.partition("{")
            if found == name and all(f'{key}="{text}"' in rest for key, text in labels.items()):
                total += float(value)
        return total


@contextlib.asynccontextmanager
async def running_edge(
    *scripts: Script,
    keys: KeySnapshot | None = None,
    capabilities: Capabilities | None = None,
    route: Callable[[Sequence[Candidate]], RouteAnswer] | None = None,
    wrap: Callable[[Edge], Edge] = lambda edge: edge,
    **settings: Any,
) -> AsyncIterator[RunningEdge]:
    """Run an edge between a scripted control and one scripted engine for each of `scripts`.

    Args:
        scripts: the engines' behaviour; candidates are tried in this order.
        keys: as control would push them; none are needed by default.
        capabilities: of the engines.
        route: makes the answer to every route question from the candidates; default: all of them.
        wrap: may exchange something of the composition before it serves.
        settings: of the edge, by their names in `[edge]`.
    """
    thresholds = gc.get_threshold()
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(Engine(script)) for script in scripts]
        candidates = tuple(
            Candidate(
                backend=f"engine-{number}",
                engine="vllm",
                url=engine.url,
                model=MODEL,
                region=f"r{number}",
                max_inflight=1024,
                capabilities=capabilities or Capabilities(),
            )
            for number, engine in enumerate(engines)
        )
        answer = RouteAnswer(decision_id="d", ttl_ms=600_000, candidates=candidates, snapshot=1)
        if not candidates:
            answer = RouteAnswer(decision_id="d", ttl_ms=600_000, shed=Shed(code="no_backend", message="None."))
        states = tuple(BackendState(name=c.backend, health="up", models=(c.model,)) for c in candidates)
        snapshot = Snapshot(
            header=Header(instance="control", sequence=1), backends=states, keys=keys or KeySnapshot()
        )
        control = ScriptedControl(route(candidates) if route is not None else answer, snapshot)
        await stack.enter_async_context(control)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        defaults = {
            # Edges of one name and one millisecond would share a socket.
            "peer_dir": str(folder),
            "port": 0,
            "ops_port": 0,
            "node": "test",
            "sync_wait_ms": 30_000,
            "drain_ms": 1_000,
            "region": "r0",
        }
        wanted = EdgeSettings(**{**defaults, "control_url": control.url, **settings})
        edge = wrap(await stack.enter_async_context(composed(wanted)))
        connections: set[EdgeProtocol] = set()
        edge = replace(edge, public=replace(edge.public, http=_watched(edge.public.http, connections)))
        ready = folder / "ready.json"
        serving = asyncio.create_task(edge.serve(str(ready)))
        try:
            await until(lambda: serving.done() or _there(ready), "the edge is ready")
            assert not serving.done(), f"the edge ended: {serving.result()}"
            await until(lambda: edge.parts.state.snapshot is not None, "control's first snapshot")
            urls = json.loads(_text(ready))
            yield RunningEdge(urls["url"], urls["ops_url"], edge, engines, control, connections)
        finally:
            edge.lifecycle.interrupt()
            edge.lifecycle.interrupt()
            await asyncio.wait({serving})
            gc.unfreeze()
            gc.set_threshold(*thresholds)
            await until(lambda: edge.lifecycle.state == "stopped", "the edge has stopped")


def _watched(http: object, connections: set[EdgeProtocol]) -> type[EdgeProtocol]:
    """Return the edge's own protocol class, which also enters itself into `connections` while it is connected."""
    assert isinstance(http, type)
    assert issubclass(http, EdgeProtocol)

    class Watched(http):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            connections.add(self)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.discard(self)

        def hand_over(self, protocol: asyncio.Protocol) -> bytes:
            connections.discard(self)
            rest: bytes = super().hand_over(protocol)
            return rest

    return Watched


def _there(path: Path) -> bool:
    return path.exists()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
