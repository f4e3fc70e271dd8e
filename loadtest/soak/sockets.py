"""The load over WebSocket: neighbours, credit in small pieces, cancels, drops, resumes by either transport."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from loadtest.conform import sse
from loadtest.conform.http import Channel, Target, request
from loadtest.soak.truth import Truth

__all__ = ["SocketLoad"]

_ENDS: Final = ("done", "error", "cancelled")
_CREDIT_BYTES: Final = 600
_WINDOW_S: Final = 5
_LONG: Final = "tokens=2000"


class SocketLoad:
    """One kind of load a method; each runs once and returns what became of it.

    Args:
        target: the edge.
        truth: judges the answers.
        patience_s: for each wait.
        sim: `X-Sim` of the answer that `truth` knows.
    """

    def __init__(self, target: Target, truth: Truth, patience_s: float, sim: str) -> None:
        self._target = target
        self._truth = truth
        self._patience_s = patience_s
        self._sim = sim

    @property
    def kinds(self) -> tuple[Callable[[], Awaitable[str]], ...]:
        """All of them."""
        return (self._sockets, self._socket_drop, self._socket_resume, self._socket_takes_over)

    async def _sockets(self) -> str:
        """Three streams on one socket: one flows freely, one by credit, one is cancelled on its way."""
        async with self._opened() as socket:
            await socket.start("free", self._sim)
            await socket.start("credit", self._sim, credit=_CREDIT_BYTES)
            await socket.start("cancel", _LONG)
            leave_at = random.randint(1, 20)
            while len(socket.ended) < 3:
                said = await socket.hear()
                if said.get("type") != "event":
                    continue
                if said["id"] == "credit":
                    await socket.say("credit", "credit", bytes=socket.size)
                elif said["id"] == "cancel" and said["seq"] == leave_at:
                    await socket.say("cancel", "cancel")
            outcomes = [self._judge(f"socket {name}", socket, name) for name in ("free", "credit")]
            if socket.ended["cancel"] == "done":
                outcomes.append(self._truth.lie("socket cancel", "done, and it was cancelled"))
        return next((one for one in outcomes if one != "complete"), "complete")

    async def _socket_drop(self) -> str:
        """A socket that goes away with two streams under way, without a word."""
        async with self._opened() as socket:
            await socket.start("a", _LONG)
            await socket.start("b", _LONG, credit=_CREDIT_BYTES)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.0, 0.5)):
                    while len(socket.ended) < 2:
                        await socket.hear()
            socket.cut()
        return "left"

    async def _socket_resume(self) -> str:
        """A socket is lost in the middle; the stream is read on over a socket, or as an event stream."""
        async with self._opened() as socket:
            await socket.start("r", self._sim, resume=_WINDOW_S)
            wanted = random.randint(1, 40)
            while "r" not in socket.ended and socket.seq.get("r", 0) < wanted:
                await socket.hear()
            socket.cut()
        if (stream := socket.stream) is None or "r" in socket.ended:
            return "ended before"
        text, after = socket.texts["r"], socket.seq["r"]
        if random.random() < 0.5:
            return await self._read_on(stream, text, after, "socket resume")
        path = f"/v1/streams/{stream}"
        async with Channel(self._target, self._patience_s) as channel:
            await channel.send(request(self._target, method="GET", path=path, headers={"Last-Event-ID": str(after)}))
            answer = await channel.rest(await channel.head())
        if answer.status != 200:
            return str(answer.status)
        text += sse.text_of(sse.payloads(answer.body))
        if sse.told_error(answer):
            return self._truth.cut_short("socket resume by SSE", text, "told")
        ended = sse.DONE in sse.payloads(answer.body) and answer.whole
        return self._truth.whole("socket resume by SSE", text, ended=ended, how=answer.outcome)

    async def _socket_takes_over(self) -> str:
        """An event stream that still runs is taken over by a socket."""
        asked = {
            "model": self._target.model, "messages": [{"role": "user", "content": "soak"}], "stream": True,
        }  # fmt: skip
        headers = {"X-Sim": self._sim, "X-Headrace-Resume": str(_WINDOW_S)}
        async with Channel(self._target, self._patience_s) as channel:
            await channel.send(request(self._target, json.dumps(asked).encode(), headers=headers))
            answer = await channel.head()
            stream = answer.headers.get("x-headrace-stream")
            if stream is None:
                return "not offered"
            wanted = random.randint(1, 30)
            while len(sse.payloads(answer.body)) < wanted and await channel.more(answer):
                pass
            if sse.told_error(answer) or sse.DONE in sse.payloads(answer.body):
                return "ended before"
            seen = sse.events(answer.body)
            after = int(seen[-1].id) if seen else 0
            text = sse.text_of([event.data for event in seen])
            return await self._read_on(stream, text, after, "socket takes over")

    async def _read_on(self, stream: str, text: str, after: int, kind: str) -> str:
        async with self._opened() as socket:
            socket.texts["on"], socket.seq["on"] = text, after
            await socket.say("resume", "on", stream=stream, after=after)
            while "on" not in socket.ended:
                await socket.hear()
        return self._judge(kind, socket, "on")

    def _judge(self, kind: str, socket: _Socket, name: str) -> str:
        text, end = socket.texts.get(name, ""), socket.ended[name]
        return self._truth.whole(kind, text) if end == "done" else self._truth.cut_short(kind, text, end)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[_Socket]:
        url = self._target.url.rstrip("/").removesuffix("/v1").replace("http", "ws", 1) + "/v1/ws"
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}
        try:
            async with connect(url, open_timeout=self._patience_s, close_timeout=self._patience_s, **options) as wire:
                yield _Socket(wire, self._target.model, self._patience_s, self._truth)
        except ConnectionClosed as error:
            raise ConnectionError(f"the socket ended: {error}") from error


class _Socket:
    """A client's side of one socket."""

    def __init__(self, wire: ClientConnection, model: str, patience_s: float, truth: Truth) -> None:
        self._wire = wire
        self._model = model
        self._patience_s = patience_s
        self._truth = truth
        #: By stream: text so far, last number, how it ended.
        self.texts: dict[str, str] = {}
        self.seq: dict[str, int] = {}
        self.ended: dict[str, str] = {}
        #: Bytes of the last message, which are what it takes of a credit.
        self.size = 0
        #: The id of the last resumable stream that began.
        self.stream: str | None = None

    async def say(self, kind: str, name: str, **members: object) -> None:
        await self._wire.send(json.dumps({"type": kind, "id": name, **members}))

    async def start(self, name: str, sim: str, **members: object) -> None:
        asked = {"model": self._model, "messages": [{"role": "user", "content": "soak"}], "stream": True}
        await self.say("start", name, operation="chat", request=asked, sim=sim, **members)

    async def hear(self) -> dict[str, Any]:
        """Take one message to the books, and return it."""
        async with asyncio.timeout(self._patience_s):
            text = await self._wire.recv(decode=False)
        self.size = len(text)
        said: dict[str, Any] = json.loads(text)
        name, kind = said.get("id", ""), said["type"]
        if name in self.ended:
            self._truth.lie("socket", f"{kind} after the end of its stream")
        elif kind == "event":
            if said["seq"] != self.seq.get(name, 0) + 1:
                self._truth.lie("socket", f"event {said['seq']} behind event {self.seq.get(name, 0)}")
            self.seq[name] = said["seq"]
            self.texts[name] = self.texts.get(name, "") + sse.text_of([json.dumps(said["data"]).encode()])
        elif kind == "started":
            self.stream = said.get("stream")
        elif kind in _ENDS:
            self.ended[name] = kind
        return said

    def cut(self) -> None:
        """Go away without a close frame."""
        self._wire.transport.abort()
