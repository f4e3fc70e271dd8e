"""The load over HTTP, streams, drops, slow readers, whole answers, resumes; and the loops that all load runs in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Final

from loadtest.conform import sse
from loadtest.conform.http import Answer, Channel, ProtocolError, Target, request
from loadtest.soak.sockets import SocketLoad
from loadtest.soak.truth import Truth

__all__ = ["Load"]

_PATIENCE_S: Final = 30.0
_TOKENS: Final = 40
_SIM: Final = f"seed=5,tokens={_TOKENS}"
_WINDOW_S: Final = "5"


class Load:
    """Runs until it is cancelled, and counts what it saw.

    Args:
        target: the edge.
        loops: of each kind at a time.
    """

    def __init__(self, target: Target, loops: int = 6) -> None:
        self._target = target
        self._loops = loops
        #: What became of the answers.
        self.truth = Truth()
        self._sockets = SocketLoad(target, self.truth, _PATIENCE_S, _SIM)

    async def run(self) -> None:
        """Make load."""
        answer = await self._ask()
        self.truth.expected = sse.text_of(sse.payloads(answer.body))
        kinds: list[Callable[[], Awaitable[str]]] = [
            self._stream, self._drop, self._slow, self._whole, self._resume, *self._sockets.kinds,
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                for _ in range(self._loops):
                    group.create_task(self._again(kind))

    async def _again(self, kind: Callable[[], Awaitable[str]]) -> None:
        name = getattr(kind, "__name__", "load").strip("_")
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_S * 2):
                    self.truth.seen[f"{name}: {await kind()}"] += 1
            except TimeoutError:
                self.truth.lie(name, f"no end within {_PATIENCE_S * 2:g} s")
            except (ProtocolError, OSError) as error:
                self.truth.seen[f"{name}: {type(error).__name__}"] += 1
            await asyncio.sleep(random.uniform(0.01, 0.2))

    def _request(self, sim: str = _SIM, *, stream: bool = True, **headers: str) -> bytes:
        asked = {"model": self._target.model, "messages": [{"role": "user", "content": "soak"}], "stream": stream}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(self._target, json.dumps(asked).encode(), headers={"X-Sim": sim, **named})

    async def _ask(self, data: bytes = b"") -> Answer:
        async with Channel(self._target, _PATIENCE_S) as channel:
            await channel.send(data or self._request())
            return await channel.rest(await channel.head())

    def _judge(self, kind: str, answer: Answer, text: str) -> str:
        """Return how a stream ended; a wrong one that looks complete is a lie."""
        if answer.status != 200:
            return str(answer.status)
        if sse.told_error(answer):
            return self.truth.cut_short(kind, text, "told")
        ended = sse.DONE in sse.payloads(answer.body) and answer.whole
        return self.truth.whole(kind, text, ended=ended, how=answer.outcome)

    async def _stream(self) -> str:
        answer = await self._ask()
        return self._judge("stream", answer, sse.text_of(sse.payloads(answer.body)))

    async def _drop(self) -> str:
        async with Channel(self._target, _PATIENCE_S) as channel:
            await channel.send(self._request("tokens=2000"))
            await asyncio.sleep(random.uniform(0.0, 0.5))
        return "left"

    async def _slow(self) -> str:
        async with Channel(self._target, _PATIENCE_S, window_bytes=4096) as channel:
            await channel.send(self._request("tokens=2000,bytes=2000,itl_ms=1"))
            answer = await channel.head()
            with contextlib.suppress(TimeoutError):
                for _ in range(20):
                    await channel.more(answer, 0.5)
                    await asyncio.sleep(random.uniform(0.1, 0.5))
        return "left"

    async def _whole(self) -> str:
        answer = await self._ask(self._request(stream=False))
        if answer.status != 200:
            return str(answer.status)
        text = json.loads(answer.body)["choices"][0]["message"]["content"]
        return self.truth.whole("whole", text)

    async def _resume(self) -> str:
        async with Channel(self._target, _PATIENCE_S) as channel:
            await channel.send(self._request(X_Headrace_Resume=_WINDOW_S))
            first = await channel.head()
            stream = first.headers.get("x-headrace-stream")
            if stream is None:
                return "not offered"
            wanted = random.randint(1, _TOKENS)
            while len(sse.payloads(first.body)) < wanted and await channel.more(first):
                pass
        seen = sse.events(first.body)
        last = {"Last-Event-ID": seen[-1].id.decode("latin-1")} if seen else {}
        path = f"/v1/streams/{stream}"
        answer = await self._ask(request(self._target, method="GET", path=path, headers=last))
        if answer.status == 204 and seen and seen[-1].data == sse.DONE:
            return "nothing left"
        text = sse.text_of([event.data for event in seen] + sse.payloads(answer.body))
        return self._judge("resume", answer, text)
