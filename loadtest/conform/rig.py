"""What a case works with: the gateway, the scripted backend, deadlines, and the usual ways to ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from loadtest.conform import chunks
from loadtest.conform.backend import Backend, Exchange, Plan, Script
from loadtest.conform.http import Answer, Channel, Target, request

__all__ = ["Rig", "Timings", "engine"]


@dataclass(frozen=True, slots=True)
class Timings:
    """What the gateway was configured to, in seconds; 0 = not told, so cases that need it are skipped."""

    first_event_s: float = 0.0
    idle_s: float = 0.0
    heartbeat_s: float = 0.0


@dataclass(slots=True)
class Rig:
    """The stage of one case.

    Args:
        target: the gateway.
        backend: the scripted backend behind it; None = not there.
        timings: its deadlines.
        patience_s: anything that should happen soon has happened by then.
    """

    target: Target
    backend: Backend | None = None
    timings: Timings = field(default_factory=Timings)
    patience_s: float = 5.0

    @property
    def soon_s(self) -> float:
        """What a person calls "at once" on a quiet machine, scaled with the patience."""
        return self.patience_s / 5

    def channel(self, *, window_bytes: int = 0) -> Channel:
        """Return a connection that `async with` makes."""
        return Channel(self.target, self.patience_s, window_bytes=window_bytes)

    def plan(self, script: Script) -> contextlib.AbstractAsyncContextManager[Plan]:
        """Have the backend act out `script` for the requests of the block."""
        assert self.backend is not None  # noqa: S101  # The runner skips such cases.
        return self.backend.plan(script)

    def body(self, plan: Plan | None = None, *, stream: bool = True, **fields: Any) -> bytes:
        """Return a chat request's JSON."""
        content = f"Count from one to thirty. {plan.prompt if plan else ''}".strip()
        asked = {
            "model": self.target.model,
            "messages": [{"role": "user", "content": content}],
            "stream": stream,
            "max_tokens": 48,
            **fields,
        }
        return json.dumps(asked).encode()

    def request(self, plan: Plan | None = None, *, stream: bool = True, **fields: Any) -> bytes:
        """Return a chat request's bytes."""
        return request(self.target, self.body(plan, stream=stream, **fields))

    async def ask(
        self, plan: Plan | None = None, *, stream: bool = True, within_s: float = 0.0, **fields: Any
    ) -> Answer:
        """Ask on a connection of its own and read the whole answer.

        Raises:
            ProtocolError: what came is not HTTP.
            TimeoutError: not even a status line came.
        """
        return await self.exchange(self.request(plan, stream=stream, **fields), within_s=within_s)

    async def exchange(self, data: bytes, *, within_s: float = 0.0) -> Answer:
        """Send a request's bytes on a connection of its own and read the whole answer; raises like `ask`."""
        async with self.channel() as channel:
            await channel.send(data)
            return await channel.rest(await channel.head(within_s or None), within_s or None)

    @contextlib.asynccontextmanager
    async def asking(self, plan: Plan | None = None, *, stream: bool = True, **fields: Any) -> AsyncIterator[Channel]:
        """Ask, and leave the reading to the block."""
        async with self.channel() as channel:
            await channel.send(self.request(plan, stream=stream, **fields))
            yield channel

    async def closed_upstream(self, exchange: Exchange) -> float | None:
        """Wait until the gateway has closed an upstream; seconds from now, None = it has not in time."""
        began = monotonic()
        try:
            async with asyncio.timeout(self.patience_s):
                await exchange.gone.wait()
        except TimeoutError:
            return None
        return max(0.0, (exchange.gone_at or began) - began)


async def engine(exchange: Exchange, id_: str, words: list[str], *, pace_s: float = 0.0) -> None:
    """Act as a well-behaved engine: answer with `words`, streamed or whole as asked, with usage if asked."""
    if not exchange.json.get("stream"):
        await exchange.answer(200, chunks.completion(id_, "".join(words)))
        return
    await exchange.stream()
    await exchange.send(chunks.role(id_))
    for word in words:
        await exchange.send(chunks.delta(id_, word))
        if pace_s:
            await asyncio.sleep(pace_s)
    await exchange.send(chunks.finish(id_))
    if exchange.usage_asked:
        await exchange.send(chunks.usage(id_))
    await exchange.send(chunks.DONE)
    await exchange.end()
