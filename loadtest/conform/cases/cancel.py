"""Cancel: a client that is gone stops costing GPU time, whatever the gateway was waiting for."""

from __future__ import annotations

import asyncio

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.rig import Rig


async def _verdict(rig: Rig, exchange: Exchange) -> Finding:
    took_s = await rig.closed_upstream(exchange)
    if took_s is None:
        return failed(f"the engine still generates {rig.patience_s:g} s after the client left")
    told = f"upstream closed {took_s * 1000:.0f} ms after the client left"
    return passed(told) if took_s <= rig.soon_s else deviation(told)


async def _tokens(x: Exchange, id_: str, *, gap_s: float) -> None:
    """Generate until the gateway leaves, for half a minute at most."""
    await x.stream()
    await x.send(chunks.role(id_))
    for at in range(int(30 / gap_s)):
        await x.send(chunks.delta(id_, f"{at} "))
        await x.silence(gap_s)
        if x.gone.is_set():
            return


@case(
    "cancel-before-first-event",
    "cancel",
    "When the client closes before the first token, the upstream is closed within a second.",
    "BerriAI/litellm#31499",
    "BerriAI/litellm#13774",
)
async def before_first_event(rig: Rig) -> Finding:
    """Leave while the engine has not sent a byte."""

    async def script(x: Exchange) -> None:
        await x.silence()

    async with rig.plan(script) as plan, rig.asking(plan) as channel:
        exchange = await plan.exchange(rig.patience_s)
        channel.close()
        return await _verdict(rig, exchange)


@case(
    "cancel-mid-stream",
    "cancel",
    "When the client closes while tokens flow, the upstream is closed within a second.",
    "BerriAI/litellm#13774",
    "sgl-project/sglang#36333",
)
async def mid_stream(rig: Rig) -> Finding:
    """Leave after some tokens."""

    async def script(x: Exchange) -> None:
        await _tokens(x, plan.id, gap_s=0.02)

    async with rig.plan(script) as plan, rig.asking(plan) as channel:
        answer = await channel.head()
        while answer.body.count(b"data:") < 4 and await channel.more(answer):
            pass
        exchange = await plan.exchange(rig.patience_s)
        channel.close()
        return await _verdict(rig, exchange)


@case(
    "cancel-in-silence",
    "cancel",
    "The client's leaving is noticed while the engine is silent, without a write that fails.",
    "smg-project/smg#2136",
    "maximhq/bifrost#5836",
)
async def in_silence(rig: Rig) -> Finding:
    """Leave in the middle of a stream that has fallen silent."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id), chunks.delta(plan.id, "silence"))
        await x.silence()

    async with rig.plan(script) as plan, rig.asking(plan) as channel:
        answer = await channel.head()
        while b"silence" not in answer.body and await channel.more(answer):
            pass
        exchange = await plan.exchange(rig.patience_s)
        # Part of the scene: the gateway has been waiting for the engine for a while.
        await asyncio.sleep(0.3)
        channel.close()
        return await _verdict(rig, exchange)


@case(
    "cancel-non-stream",
    "cancel",
    "When the client of a non-streaming request closes, the upstream is closed within a second.",
    "BerriAI/litellm#37140",
    "BerriAI/litellm#36123",
)
async def non_stream(rig: Rig) -> Finding:
    """Leave while a whole answer is made."""

    async def script(x: Exchange) -> None:
        await x.silence()

    async with rig.plan(script) as plan, rig.asking(plan, stream=False) as channel:
        exchange = await plan.exchange(rig.patience_s)
        channel.close()
        return await _verdict(rig, exchange)


@case(
    "cancel-burst",
    "cancel",
    "Of two dozen clients that leave at the same moment, none leaves a generation behind.",
    "BerriAI/litellm#13774",
    "vllm-project/production-stack#1072",
    alone=True,
)
async def burst(rig: Rig) -> Finding:
    """Abandon 24 streams at once."""

    async def script(x: Exchange) -> None:
        await _tokens(x, plan.id, gap_s=0.05)

    async with rig.plan(script) as plan:
        channels = [rig.channel() for _ in range(24)]
        for channel in channels:
            await channel.__aenter__()
        await asyncio.gather(*(channel.send(rig.request(plan)) for channel in channels))
        await plan.exchange(rig.patience_s, attempt=len(channels))
        exchanges = list(plan.exchanges)
        for channel in channels:
            channel.reset()
        took = await asyncio.gather(*(rig.closed_upstream(exchange) for exchange in exchanges))
    left = sum(one is None for one in took)
    if left:
        return failed(f"{left} of {len(took)} generations go on {rig.patience_s:g} s after their clients left")
    longest = max(one or 0.0 for one in took)
    told = f"{len(took)} upstreams closed, the last after {longest * 1000:.0f} ms"
    return passed(told) if longest <= rig.soon_s else deviation(told)


@case(
    "half-close",
    "cancel",
    "A half-close either ends the upstream or still gets the whole answer; never neither.",
    "BerriAI/litellm#31499",
    severity="should",
)
async def half_close(rig: Rig) -> Finding:
    """Send FIN in mid-stream and keep reading."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id))
        for at in range(20):
            await x.send(chunks.delta(plan.id, f"{at} "))
            await x.silence(rig.soon_s / 20)
        await x.send(chunks.finish(plan.id), chunks.DONE)
        await x.end()

    if rig.target.url.startswith("https"):
        return passed("TLS has no half-close to speak of")
    async with rig.plan(script) as plan, rig.asking(plan) as channel:
        answer = await channel.head()
        while answer.body.count(b"data:") < 3 and await channel.more(answer):
            pass
        exchange = await plan.exchange(rig.patience_s)
        channel.half_close()
        await channel.rest(answer)
        async with asyncio.timeout(rig.patience_s):
            await exchange.over.wait()
    if answer.whole and sse.DONE in sse.payloads(answer.body):
        return passed("the whole answer arrived")
    if exchange.gone.is_set():
        return passed("taken as a departure: upstream closed")
    return failed(f"the engine worked to the end, the client got {len(sse.payloads(answer.body))} events")
