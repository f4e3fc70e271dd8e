"""Full backends at the public door: waiting, a 429 that says when to come back, eviction, and storms of clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from streamkit.wire.route import Candidate, RouteAnswer
from tests.support.inprocess import DONE, MODEL, RunningEdge, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, Response, post

pytestmark = pytest.mark.anyio


class Gates:
    """An engine that begins an answer when it is told to, and ends it when it is told to."""

    def __init__(self) -> None:
        self.begins = asyncio.Event()
        self.ends = asyncio.Event()

    async def __call__(self, exchange: ScriptedExchange) -> None:
        await exchange.head()
        await self.begins.wait()
        await exchange.send(chunk("hello"))
        await self.ends.wait()
        await exchange.send(finish())
        await exchange.send(DONE)
        await exchange.end()


def bound(limit: int, **answer: Any) -> Callable[[Sequence[Candidate]], RouteAnswer]:
    def route(candidates: Sequence[Candidate]) -> RouteAnswer:
        bounded = tuple(msgspec.structs.replace(one, max_inflight=limit) for one in candidates)
        return RouteAnswer(decision_id="d", ttl_ms=600_000, candidates=bounded, snapshot=1, **answer)

    return route


def ask(priority: int | None = None, *, stream: bool = True) -> bytes:
    headers = {} if priority is None else {"x-headrace-priority": str(priority)}
    return post({"model": MODEL, "stream": stream}, headers=headers)


def waiting(edge: RunningEdge) -> float:
    return edge.metric("headrace_queue_waiting")


def assert_advice(response: Response, reason: str) -> None:
    assert response.headers["x-headrace-reason"] == reason
    assert int(response.headers["retry-after-ms"]) > 0
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["x-should-retry"] == "true"


async def test_a_probe_of_what_is_full_is_told_so_and_does_not_stand_in_line() -> None:
    gates = Gates()
    async with (
        running_edge(gates, route=bound(1)) as edge,
        Raw.to(edge.url) as first,
        Raw.to(edge.url) as prober,
    ):
        gates.begins.set()
        await first.send(ask())
        await first.until(b"hello")
        probe = {"x-headrace-probe": "scripted", "x-headrace-priority": "1"}
        await prober.send(post({"model": MODEL, "stream": True}, headers=probe))
        refused = await prober.response()
        assert (refused.status, refused.json["error"]["code"]) == (429, "saturated")
        assert edge.metric("headrace_queue_wait_seconds_count", ending="expired") == 0
        assert edge.metric("headrace_evictions_total") == 0, "nobody gives way to it"
        gates.ends.set()
        await first.until(DONE)


async def test_the_next_in_line_is_served_when_a_stream_ends() -> None:
    gates = Gates()
    async with (
        running_edge(gates, route=bound(1)) as edge,
        Raw.to(edge.url) as first,
        Raw.to(edge.url) as second,
    ):
        gates.begins.set()
        await first.send(ask())
        await first.until(b"hello")
        await second.send(ask())
        await until(lambda: waiting(edge) == 1)
        assert len(edge.engine.exchanges) == 1
        gates.ends.set()
        assert (await second.response()).body.endswith(DONE)
        assert edge.metric("headrace_queue_wait_seconds_count", ending="granted") == 1
        await edge.quiet()
        assert waiting(edge) == 0


async def test_a_resumable_stream_that_waits_is_owed_nothing_yet() -> None:
    gates = Gates()
    resumable = post({"model": MODEL, "stream": True}, headers={"x-headrace-resume": "5"})
    async with running_edge(gates, route=bound(1), queue_ms=200) as edge, contextlib.AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(Raw.to(edge.url)) for _ in range(3)]
        gates.begins.set()
        await first.send(resumable)
        await first.until(b"hello")
        await second.send(resumable)
        answer = await second.response()
        assert answer.status == 429
        assert "x-headrace-stream" not in answer.headers
        await third.send(resumable)
        await until(lambda: waiting(edge) == 1)
        gates.ends.set()
        answer = await third.response()
        assert answer.status == 200
        assert answer.headers["x-headrace-stream"].startswith("hs-")
        await until(lambda: not edge.inflight)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_wait_in_vain_is_a_real_429_with_advice(stream: bool) -> None:
    async with running_edge(Gates(), route=bound(1), queue_ms=30) as edge, Raw.to(edge.url) as first:
        await first.send(ask())
        await edge.engine.asked()
        async with Raw.to(edge.url) as second:
            answer = await second.ask(ask(stream=stream))
        assert answer.status == 429
        assert answer.error["code"] == "saturated"
        assert "within 0.03 s" in answer.error["message"]
        assert_advice(answer, "rejected-saturated")
        assert len(edge.engine.exchanges) == 1, "no GPU work was spent"
        assert waiting(edge) == 0


async def test_a_full_queue_refuses_at_once_and_a_client_that_leaves_makes_room() -> None:
    async with running_edge(Gates(), route=bound(1), queue_max=1) as edge, contextlib.AsyncExitStack() as stack:
        running, queued, refused = [await stack.enter_async_context(Raw.to(edge.url)) for _ in range(3)]
        await running.send(ask())
        await edge.engine.asked()
        await queued.send(ask())
        await until(lambda: waiting(edge) == 1)
        answer = await refused.ask(ask())
        assert answer.status == 429
        assert_advice(answer, "rejected-saturated")
        queued.close()
        await until(lambda: waiting(edge) == 0)
        assert edge.metric("headrace_disconnects_total", phase="first_event") == 1
        again = await stack.enter_async_context(Raw.to(edge.url))
        await again.send(ask())
        await until(lambda: waiting(edge) == 1)
        running.close()
        await edge.engine.asked(2)
        assert edge.engine.exchanges[0].closed.is_set()


async def test_a_high_priority_evicts_what_has_not_begun_and_nothing_that_has() -> None:
    gates = Gates()
    async with running_edge(gates, route=bound(1)) as edge, contextlib.AsyncExitStack() as stack:
        low, high, higher = [await stack.enter_async_context(Raw.to(edge.url)) for _ in range(3)]
        await low.send(ask(6))
        await edge.engine.asked()
        await high.send(ask(3))
        answer = await low.response()
        assert answer.status == 503
        assert answer.error["code"] == "evicted"
        assert_advice(answer, "evicted-priority")
        assert edge.metric("headrace_evictions_total", where="running") == 1
        await edge.engine.asked(2)
        gates.begins.set()
        await high.until(b"hello")
        await higher.send(ask(1))
        await until(lambda: waiting(edge) == 1)
        gates.ends.set()
        assert (await higher.response()).body.endswith(DONE)
        assert edge.metric("headrace_evictions_total", where="running") == 1, "nothing that had begun"
        await edge.quiet()


async def test_a_storm_of_clients_that_come_wait_leave_and_evict_leaves_nothing_behind() -> None:
    dice = random.Random(7)

    async def engine(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await asyncio.sleep(dice.random() * 0.02)
        match dice.randrange(5):
            case 0:
                exchange.cut()
            case 1:
                await exchange.send(chunk("half"))
                exchange.cut()
            case _:
                for event in (chunk("a"), chunk("b"), finish(), DONE):
                    await exchange.send(event)
                await exchange.end()

    async def client(edge: RunningEdge) -> None:
        async with Raw.to(edge.url) as raw:
            await raw.send(ask(dice.randrange(1, 10), stream=dice.random() < 0.8))
            if dice.random() < 0.4:
                await asyncio.sleep(dice.random() * 0.05)
                if dice.random() < 0.5:
                    raw.reset()
                else:
                    raw.close()
            else:
                assert (await raw.response()).status in (200, 429, 502, 503)

    async with running_edge(
        engine, engine, route=bound(2), queue_ms=60, queue_max=8, queue_ageing_ms=10, breaker_failures=1_000
    ) as edge:
        for _ in range(4):
            await asyncio.gather(*(client(edge) for _ in range(50)))
        await edge.quiet()
        assert waiting(edge) == 0
        assert edge.metric("headrace_queue_wait_seconds_count") > 20
        for backend in edge.parts.backends.inflight_by_name():
            assert edge.metric("headrace_attempts_inflight", backend=backend) == 0
