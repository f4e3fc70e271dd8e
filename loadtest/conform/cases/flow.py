"""Flow: tokens leave when they come, nobody waits for somebody else, and nothing is piled up."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from time import monotonic

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.http import Answer
from loadtest.conform.judge import UnmetError, content, said, stream_of
from loadtest.conform.rig import Rig, engine

_MIB = 1 << 20


@case(
    "first-event-at-once",
    "flow",
    "The first token reaches the client before the engine sends the second.",
    "BerriAI/litellm#26102",
    "envoyproxy/ai-gateway#1894",
)
async def first_event_at_once(rig: Rig) -> Finding:
    """Send no second token until the client has the first."""
    seen = asyncio.Event()

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id))
        await x.sent_all()
        await x.send(chunks.delta(plan.id, "FIRST"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(seen.wait(), rig.patience_s + 1)
        await x.send(chunks.delta(plan.id, " second"), chunks.finish(plan.id), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan, rig.asking(plan) as channel:
        began = monotonic()
        try:
            answer = await channel.head()
            while b"FIRST" not in answer.body:
                if not await channel.more(answer):
                    return failed(f"ended before the first token: {said(answer)}")
        except TimeoutError:
            return failed(f"no token within {rig.patience_s:g} s of the engine's first")
        took_s = monotonic() - began
        seen.set()
        await channel.rest(answer)
    stream_of(answer)
    return passed(f"first token after {took_s * 1000:.0f} ms, while the engine waited")


async def _paced(rig: Rig, count: int, gap_s: float) -> list[float]:
    """Stream `count` tokens, `gap_s` apart; return how long each was under way, in seconds."""
    sent: list[float] = []

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id))
        for at in range(count):
            sent.append(monotonic())
            await x.send(chunks.delta(plan.id, f"<{at}>"))
            await asyncio.sleep(gap_s)
        await x.send(chunks.finish(plan.id), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
    stream_of(answer)
    came: list[float] = []
    body = b""
    for piece in answer.pieces:
        body += piece.data
        while len(came) < count and b"<%d>" % len(came) in body:
            came.append(piece.at)
    if len(came) < count:
        raise UnmetError(f"{len(came)} of {count} tokens arrived")
    return [there - here for here, there in zip(sent, came, strict=True)]


@case(
    "no-batching",
    "flow",
    "Tokens are not gathered: one that the engine sends alone arrives alone, at once.",
    "ray-project/ray#59681",
    "BerriAI/litellm#26102",
    alone=True,
)
async def no_batching(rig: Rig) -> Finding:
    """Send tokens 25 ms apart and see how long each takes."""
    best = 1.0
    for _ in range(3):  # A loud machine delays once or twice, a batcher always.
        best = min(best, statistics.median(await _paced(rig, 24, 0.025)))
        if best < 0.010:
            break
    told = f"median transit {best * 1000:.1f} ms of tokens 25 ms apart"
    return passed(told) if best < 0.015 * max(1.0, rig.soon_s) else failed(told)


@case(
    "concurrent-streams",
    "flow",
    "Thirty-two streams at a time each get their own answer.",
    "vllm-project/production-stack#448",
    alone=True,
)
async def concurrent_streams(rig: Rig) -> Finding:
    """Give each stream a text of its own."""

    async def one(number: int) -> bool:
        words = [f"{number}:{at} " for at in range(8)]

        async def script(x: Exchange) -> None:
            await engine(x, plan.id, words, pace_s=0.01)

        async with rig.plan(script) as plan:
            answer = await rig.ask(plan)
        return sse.text_of(stream_of(answer)) == "".join(words)

    right = await asyncio.gather(*(one(number) for number in range(32)))
    return passed("32 of 32") if all(right) else failed(f"{right.count(False)} of 32 got another text")


@case(
    "slow-reader-apart",
    "flow",
    "A client that stops reading delays nobody else.",
    "vllm-project/production-stack#687",
    alone=True,
)
async def slow_reader_apart(rig: Rig) -> Finding:
    """Freeze one reader of a pouring engine, and time the tokens of another stream."""
    filler = chunks.delta("chatcmpl-pour", "x" * 16_000)

    async def pour(x: Exchange) -> None:
        await x.stream()
        while x.sent_bytes < 24 * _MIB:
            await x.send(filler)
        await x.silence(rig.patience_s)

    async with rig.plan(pour) as frozen, rig.channel(window_bytes=8192) as channel:
        await channel.send(rig.request(frozen))
        exchange = await frozen.exchange(rig.patience_s)
        await _still(exchange)
        worst = 10.0
        for _ in range(2):
            worst = min(worst, max(await _paced(rig, 20, 0.02)))
            if worst < 0.1:
                break
    told = f"longest transit beside a frozen reader {worst * 1000:.0f} ms"
    return passed(told) if worst < 0.25 * max(1.0, rig.soon_s) else failed(told)


async def _still(exchange: Exchange, limit_s: float = 3.0) -> int:
    """Wait until the gateway takes no more from the engine, and return how much it took, in bytes."""
    deadline = monotonic() + limit_s
    took, since = -1, monotonic()
    while monotonic() < deadline and monotonic() - since < 0.4:
        if exchange.sent_bytes != took:
            took, since = exchange.sent_bytes, monotonic()
        await asyncio.sleep(0.02)
    return took


@case(
    "bounded-buffer",
    "flow",
    "What a frozen client does not read is not piled up in the gateway.",
    "BerriAI/litellm#12685",
    "vllm-project/production-stack#707",
    alone=True,
)
async def bounded_buffer(rig: Rig) -> Finding:
    """Pour into a client that reads nothing, and see how much the gateway takes."""
    filler = chunks.delta("chatcmpl-pour", "x" * 16_000)

    async def pour(x: Exchange) -> None:
        await x.stream()
        while x.sent_bytes < 48 * _MIB:
            await x.send(filler)
        await x.silence(rig.patience_s)

    async with rig.plan(pour) as plan, rig.channel(window_bytes=8192) as channel:
        await channel.send(rig.request(plan))
        exchange = await plan.exchange(rig.patience_s)
        took = await _still(exchange, 6.0)
    told = f"took {took / _MIB:.1f} MiB for a client that reads nothing"
    if exchange.gone.is_set():
        return deviation(f"cut the stream; {told}")
    # A default socket buffer takes up to 6 MiB in each direction, unbidden.
    if took < 16 * _MIB:
        return passed(told)
    return failed(told)


@case(
    "no-stale-bytes",
    "flow",
    "After a client left in mid-stream, the next request gets none of the abandoned answer.",
    "RFC 9112 §9.3 (connection reuse)",
)
async def no_stale_bytes(rig: Rig) -> Finding:
    """Abandon streams, then ask again, often enough that pooled connections are used."""

    async def long(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-stale"))
        for _ in range(400):
            await x.send(chunks.delta("chatcmpl-stale", "STALE "))
            await asyncio.sleep(0.005)

    async def short(x: Exchange) -> None:
        await engine(x, "chatcmpl-fresh", ["fresh ", "answer"])

    for _ in range(4):
        async with rig.plan(long) as plan, rig.asking(plan) as channel:
            answer = await channel.head()
            while b"STALE" not in answer.body and await channel.more(answer):
                pass
        async with rig.plan(short) as plan:
            answer = await rig.ask(plan)
        text = content(stream_of(answer)).get(0, {}).get("text")
        if text != "fresh answer":
            return failed(f"the next answer reads {text!r:.80}")
    return passed("4 abandoned streams, 4 clean answers after them")


@case(
    "reuse-after-outcome",
    "flow",
    "After each kind of outcome the client's connection serves the next request, or is closed.",
    "BerriAI/litellm#39748",
)
async def reuse_after_outcome(rig: Rig) -> Finding:
    """Run good, refused, failing and whole answers over one connection as long as it lasts."""

    async def good(x: Exchange) -> None:
        await engine(x, "chatcmpl-good", ["all ", "is ", "well"])

    async def refused(x: Exchange) -> None:
        await x.answer(400, chunks.error("no", 400))

    async def frame(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-frame"), chunks.delta("chatcmpl-frame", "half"))
        await x.send(chunks.event(chunks.error("broke", 500, "InternalServerError")), chunks.DONE)
        await x.end()

    connections = 0
    done: list[str] = []
    scripts = [("stream", good), ("400", refused), ("whole", good), ("error frame", frame), ("stream", good)]
    while scripts:
        connections += 1
        async with rig.channel() as channel:
            while scripts:
                name, script = scripts.pop(0)
                async with rig.plan(script) as plan:
                    await channel.send(rig.request(plan, stream=name != "whole"))
                    answer = await channel.rest(await channel.head())
                _as_expected(name, answer)
                done.append(name)
                if answer.headers.get("connection", "").lower() == "close" or not answer.whole:
                    break
    told = f"{len(done)} outcomes over {connections} connection(s)"
    return passed(told) if connections <= 2 else deviation(told)


def _as_expected(name: str, answer: Answer) -> None:
    if name == "stream" and sse.text_of(stream_of(answer)) != "all is well":
        raise UnmetError(f"{name}: {said(answer)}")
    if name == "400" and not 400 <= answer.status < 500:
        raise UnmetError(f"{name}: {said(answer)}")
    if name == "whole" and b"all is well" not in answer.body:
        raise UnmetError(f"{name}: {said(answer)}")
