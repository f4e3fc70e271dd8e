"""The faulty gateway itself: connections, routes, whole answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any, Final, Self

from loadtest.conform.faulty.client import Client, ClientGoneError, RefusedError, Request, refusal
from loadtest.conform.faulty.faults import Faults
from loadtest.conform.faulty.recording import Recording, replay
from loadtest.conform.faulty.stream import StreamRelay
from loadtest.conform.faulty.upstream import BrokenError, Pool, Upstream
from loadtest.conform.rig import Timings

__all__ = ["FaultyGateway"]

_CHAT: Final = "/v1/chat/completions"
_SCRIPTED: Final = b"conform:"


class FaultyGateway:
    """Listens on a free port of the loopback; an async context manager.

    Args:
        urls: its engines.
        model: what it serves.
        key: what it demands as a bearer token.
        timings: its deadlines and heartbeat.
        faults: which faults it has.
    """

    def __init__(self, urls: list[str], model: str, key: str, timings: Timings, faults: Iterable[str] = ()) -> None:
        self.faults = Faults(faults)
        self.timings = timings
        self.pool = Pool(urls)
        self._model = model
        self._key = key
        self._tasks: set[asyncio.Task[None]] = set()
        self._recordings: dict[str, Recording] = {}
        self._streams = 0
        self.url = ""
        #: Streams open now; those whose client cannot be written to; when the last clients left.
        self.open = 0
        self.full = 0
        self.departures: deque[float] = deque(maxlen=64)
        self.abandoned = 0
        self.leftover = b""
        self.broken = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=256)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pool.close()

    def next_number(self) -> int:
        """Return the number of a stream."""
        self._streams += 1
        return self._streams

    def left(self) -> None:
        """Note that a client left."""
        self.departures.append(monotonic())

    @property
    def crowd(self) -> bool:
        """Many clients left just now."""
        return sum(at > monotonic() - 10.0 for at in self.departures) >= 16

    def keep(self, task: asyncio.Task[None]) -> None:
        """Let a task run on until the gateway ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs this as a task.
        self.keep(task)
        writer.transport.set_write_buffer_limits(high=65_536)
        client = Client(reader, writer, self.faults)
        with contextlib.suppress(ClientGoneError, asyncio.CancelledError, ConnectionError):
            while await self._turn(client):
                pass
        await client.close()

    async def _turn(self, client: Client) -> bool:
        """Serve one request; whether another may follow."""
        try:
            request = await client.request()
            keeps = request.keeps
            await self._serve(client, request)
        except RefusedError as error:
            fields = {**error.headers, **({"connection": "close"} if error.close else {})}
            await client.answer(error.status, refusal(error.status, str(error)), fields)
            if error.close:
                await client.linger()
            return not error.close
        plain_stream = request.path == _CHAT and _SCRIPTED not in request.body and b'"stream": true' in request.body
        if self.faults.on("keep-alive") and plain_stream and not client.ahead:
            return False
        if self.faults.on("pipelining"):
            client.drop_ahead()
        return keeps

    async def _serve(self, client: Client, request: Request) -> None:
        on = self.faults.on
        path, method = request.path, request.method
        if method == "OPTIONS":
            raise RefusedError(500 if on("options") else 405, "no preflights here", headers={"allow": "POST"})
        if path == "/v1/models":
            listed = [] if on("models-list") else [{"id": self._model, "object": "model"}]
            await client.answer(200, json.dumps({"object": "list", "data": listed}).encode())
        elif path.startswith("/v1/streams/"):
            await self._resume(client, request)
        elif path != _CHAT:
            if on("wrong-path"):
                await client.answer(200, b"{}")
                return
            raise RefusedError(404, f"nothing at {path}")
        elif method != "POST":
            raise RefusedError(500 if on("wrong-method") else 405, "POST it", headers={"allow": "POST"})
        else:
            await self._chat(client, request)

    async def _chat(self, client: Client, request: Request) -> None:
        on = self.faults.on
        if request.headers.get("authorization") != f"Bearer {self._key}" and not on("wrong-key"):
            raise RefusedError(401, "wrong key")
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise RefusedError(500 if on("wrong-type") else 415, "send JSON")
        try:
            asked = json.loads(request.body)
        except ValueError:
            raise RefusedError(500 if on("bad-json") else 400, "no JSON") from None
        if "messages" not in asked and on("no-messages"):
            raise RefusedError(500, "no messages")
        if asked.get("model") != self._model and on("unknown-model"):
            raise RefusedError(500, "unknown model")
        if len(request.body) > 262_144 and on("long-prompt"):
            raise RefusedError(413, "too long")
        plain = _SCRIPTED not in request.body
        if plain and self.abandoned >= 8 and on("abandoned-streams"):
            raise RefusedError(503, "no slots left")
        if self.broken and on("pool-after-break"):
            self.broken = False
            raise RefusedError(503, "the pool is broken")
        fields = {"x-request-id": self._id(request)}
        if not asked.get("stream"):
            await self._whole(client, request, asked, fields)
        elif "x-headrace-resume" in request.headers:
            await self._resumable(client, request, asked, fields)
        else:
            await StreamRelay(self, client, request, asked, fields).run()

    def _id(self, request: Request) -> str:
        return "always-the-same" if self.faults.on("request-id") else request.headers.get("x-request-id", "made-up")

    def head(self, request: Request, asked: dict[str, Any], *, usage: bool) -> bytes:
        """Return the request as an engine gets it."""
        body = request.body
        if usage:
            body = body.rstrip()[:-1] + b', "stream_options": {"include_usage": true}}'
        if self.faults.on("request-faithful"):
            body = body.replace(b'"temperature": 0.1', b'"temperature": 0.2')
        trace = request.headers.get("traceparent")
        if trace and self.faults.on("trace-context"):
            trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        line = f"traceparent: {trace}\r\n" if trace else ""
        return (
            f"POST {_CHAT} HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n{line}"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def _whole(self, client: Client, request: Request, asked: dict[str, Any], fields: dict[str, str]) -> None:
        work = asyncio.create_task(self._ask(request, asked))
        gone = asyncio.create_task(client.gone.wait())
        try:
            watched = {work} if self.faults.on("cancel-non-stream") else {work, gone}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGoneError
            status, body = work.result()
        finally:
            work.cancel()
            gone.cancel()
        if status == 200 and self.faults.on("nonstream-verbatim"):
            body = re.sub(rb"\\u00e9|[\x80-\xff]+", b"", body)
        if status == 200 and _SCRIPTED not in request.body and self.faults.on("whole-answer"):
            body = json.dumps({**json.loads(body), "usage": None}).encode()
        await client.answer(status, body, fields)

    async def _ask(self, request: Request, asked: dict[str, Any]) -> tuple[int, bytes]:
        upstream: Upstream | None = None
        parts: list[bytes] = []
        try:
            upstream = await self.pool.take(fresh=True)
            await upstream.send(self.head(request, asked, usage=False))
            while piece := await upstream.piece():
                parts.append(piece)
        except BrokenError as error:
            if parts and self.faults.on("broken-whole-answer"):
                return 200, b"".join(parts)
            raise RefusedError(502, f"the engine failed: {error.how}") from error
        finally:
            if upstream is not None:
                upstream.close()
        return upstream.status, b"".join(parts)

    # Resume.

    async def _resumable(
        self, client: Client, request: Request, asked: dict[str, Any], fields: dict[str, str]
    ) -> None:
        recording = Recording(secrets.token_hex(8), single=not self.faults.on("resume-sdk-safe"))
        self._recordings[recording.id] = recording
        relay = StreamRelay(self, recording, request, asked, fields)
        self.keep(asyncio.create_task(relay.run()))
        await replay(client, recording, after=0)

    async def _resume(self, client: Client, request: Request) -> None:
        recording = self._recordings.get(request.path.rpartition("/")[2])
        if recording is None:
            if self.faults.on("resume-unknown"):
                await client.answer(200, b"", {"content-type": "text/event-stream"})
                return
            raise RefusedError(404, "no such stream")
        after = int(request.headers.get("last-event-id", "0"))
        await replay(client, recording, after=after + self.faults.on("resume"))
