"""Hedging through the public door: `hedge_after_ms` of control's answer, two engines, one client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streamkit.wire.route import Candidate, RouteAnswer
from tests.support.inprocess import DONE, MODEL, ScriptedExchange, chunk, finish, running_edge, until
from tests.support.raw import Raw, post

pytestmark = pytest.mark.anyio


def hedged(candidates: Sequence[Candidate]) -> RouteAnswer:
    return RouteAnswer(decision_id="d", ttl_ms=600_000, candidates=tuple(candidates), snapshot=1, hedge_after_ms=20)


async def silent(exchange: ScriptedExchange) -> None:
    """Headers at once and then nothing, as a vLLM that queues."""
    await exchange.head()
    await exchange.closed.wait()


async def answers(exchange: ScriptedExchange) -> None:
    await exchange.stream(chunk("hello"), finish(), DONE)


async def test_the_second_engine_answers_for_a_late_first_one() -> None:
    async with running_edge(silent, answers, route=hedged) as edge, Raw.to(edge.url) as raw:
        answer = await raw.ask(post({"model": MODEL, "stream": True}))
        assert answer.status == 200
        assert answer.headers["x-headrace-backend"] == "engine-1"
        assert answer.body == chunk("hello") + finish() + DONE
        assert edge.metric("headrace_hedges_total", outcome="won") == 1
        await edge.quiet()
        assert edge.engines[0].last.closed.is_set(), "the loser's work was stopped"
        assert edge.metric("headrace_attempts_total", backend="engine-0", outcome="cancelled") == 1


async def test_a_storm_of_hedged_requests_and_leaving_clients_gives_everything_back() -> None:
    async def engine(exchange: ScriptedExchange) -> None:
        await exchange.head()
        await asyncio.sleep(0.015 + 0.001 * (len(exchange.body) % 20))
        await exchange.send(chunk("hello"))
        await exchange.send(finish() + DONE)
        await exchange.end()

    async with running_edge(engine, engine, route=hedged) as edge:

        async def client(number: int) -> None:
            async with Raw.to(edge.url) as raw:
                await raw.send(post({"model": MODEL, "stream": True, "user": "x" * (number % 20)}))
                if number % 3 == 0:
                    await asyncio.sleep(0.001 * (number % 40))
                    raw.close()
                else:
                    assert (await raw.response()).body.count(DONE) == 1

        for _ in range(3):
            await asyncio.gather(*(client(number) for number in range(40)))
        await edge.quiet()
        made = sum(edge.metric("headrace_hedges_total", outcome=name) for name in ("won", "lost", "failed"))
        assert made <= 2 + 120 * 0.05, "a twentieth of the requests, and two for a quiet worker"
        await until(lambda: not any(edge.metric("headrace_attempts_inflight", backend=f"engine-{n}") for n in (0, 1)))


async def test_whole_answers_are_not_hedged() -> None:
    async def slow(exchange: ScriptedExchange) -> None:
        await asyncio.sleep(0.1)
        await exchange.answer({"choices": []})

    async with running_edge(slow, answers, route=hedged) as edge, Raw.to(edge.url) as raw:
        assert (await raw.ask(post({"model": MODEL}))).headers["x-headrace-backend"] == "engine-0"
        assert edge.engines[1].exchanges == []
