"""Silence: kept alive towards the client, never endless towards the engine.

Deadlines and intervals are the gateway's own; the caller says what they are (`--first-event-ms` and so on).
"""

from __future__ import annotations

import asyncio
from time import monotonic

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange
from loadtest.conform.case import Finding, case, failed, passed, skipped
from loadtest.conform.http import Answer
from loadtest.conform.judge import UnmetError, kept, said
from loadtest.conform.rig import Rig


async def _in_time(rig: Rig, exchange: Exchange, answer: Answer, began: float, deadline_s: float) -> Finding:
    """Judge an ending that a deadline of `deadline_s` should have brought."""
    took_s = monotonic() - began
    if not answer.whole and not answer.cut:
        return failed(f"still open {took_s:.1f} s after the engine fell silent; its deadline is {deadline_s:g} s")
    if await rig.closed_upstream(exchange) is None:
        return failed(f"the client was told after {took_s:.1f} s, but the engine's slot is still held")
    told = sse.told_error(answer) or (f"status {answer.status}" if answer.status >= 400 else answer.cut)
    if not told:
        return failed(f"ended as if complete: {said(answer)}")
    return passed(f"after {took_s:.1f} s: {told}")


@case(
    "stall-before-first-event",
    "silence",
    "An engine that never answers is given up at the deadline, and its slot is free again.",
    "tensorzero/tensorzero#6328",
)
async def stall_before_first_event(rig: Rig) -> Finding:
    """Take the request and say nothing."""
    deadline_s = rig.timings.first_event_s
    if not deadline_s:
        return skipped("say the gateway's deadline with --first-event-ms")

    async def script(x: Exchange) -> None:
        await x.silence()

    async with rig.plan(script) as plan:
        began = monotonic()
        # Each of several engines may use up its deadline.
        answer = await rig.ask(plan, within_s=4 * deadline_s + rig.patience_s)
        return await _in_time(rig, plan.exchanges[-1], answer, began, deadline_s)


@case(
    "stall-mid-stream",
    "silence",
    "A stream that stalls without an end is ended with an error at the deadline, and its slot is free again.",
    "microsoft/amplifier#339",
    "aaif-goose/goose#8110",
    "tensorzero/tensorzero#6328",
)
async def stall_mid_stream(rig: Rig) -> Finding:
    """Fall silent after two tokens."""
    return await _stall(rig, pings=False)


@case(
    "pings-hide-no-stall",
    "silence",
    "An engine's keep-alive comments do not keep a stalled stream alive.",
    "aaif-goose/goose#8134",
    "vllm-project/vllm#51034",
    severity="should",
)
async def pings_hide_no_stall(rig: Rig) -> Finding:
    """Fall silent after two tokens but for comments."""
    return await _stall(rig, pings=True)


async def _stall(rig: Rig, *, pings: bool) -> Finding:
    deadline_s = rig.timings.idle_s
    if not deadline_s:
        return skipped("say the gateway's deadline with --idle-ms")

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-stall"), chunks.delta("chatcmpl-stall", "and then"))
        while pings and not x.gone.is_set():
            await x.silence(deadline_s / 5)
            await x.send(b": keep-alive\n\n")
        await x.silence()

    async with rig.plan(script) as plan:
        began = monotonic()
        answer = await rig.ask(plan, within_s=2 * deadline_s + rig.patience_s)
        return await _in_time(rig, plan.exchanges[0], answer, began, deadline_s)


@case(
    "heartbeat-before-first-event",
    "silence",
    "During a long prefill the client gets bytes, so that no proxy on the way closes an idle connection.",
    "BerriAI/litellm#34374",
    "BerriAI/litellm#34819",
    "maximhq/bifrost#5010",
)
async def heartbeat_before_first_event(rig: Rig) -> Finding:
    """Let the first token come after several heartbeats."""
    every_s = rig.timings.heartbeat_s
    if not every_s:
        return skipped("say the gateway's interval with --heartbeat-ms")

    async def script(x: Exchange) -> None:
        await x.silence(3.5 * every_s)
        await x.stream()
        await x.send(chunks.role("chatcmpl-late"), chunks.delta("chatcmpl-late", "late"))
        await x.send(chunks.finish("chatcmpl-late"), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        began = monotonic()
        answer = await rig.ask(plan, within_s=4 * every_s + rig.patience_s)
    return _beats(answer, began, every_s, rig)


@case(
    "heartbeat-mid-stream",
    "silence",
    "A silence in mid-stream is filled with comments, and the stream goes on after it.",
    "BerriAI/litellm#31877",
    "gpustack/gpustack#4725",
    "higress-group/higress#2685",
)
async def heartbeat_mid_stream(rig: Rig) -> Finding:
    """Pause for several heartbeats between two tokens."""
    every_s = rig.timings.heartbeat_s
    if not every_s:
        return skipped("say the gateway's interval with --heartbeat-ms")

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-pause"), chunks.delta("chatcmpl-pause", "late"))
        await x.silence(3.5 * every_s)
        await x.send(chunks.finish("chatcmpl-pause"), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan, rig.asking(plan) as channel:
        answer = await channel.head()
        while b"late" not in answer.body and await channel.more(answer):
            pass
        began = monotonic()
        await channel.rest(answer, 4 * every_s + rig.patience_s)
    return _beats(answer, began, every_s, rig)


def _beats(answer: Answer, began: float, every_s: float, rig: Rig) -> Finding:
    if sse.text_of(sse.payloads(answer.body)) != "late" or not answer.whole:
        return failed(f"the stream did not survive {3.5 * every_s:g} s of silence: {said(answer)}")
    times = [piece.at for piece in answer.pieces if piece.at > began]
    longest = max(b - a for a, b in zip([began, *times], times, strict=False))
    told = f"{sse.comments(answer.body)} comments, longest silence {longest:.2f} s of {3.5 * every_s:g} s"
    return passed(told) if longest < 2.2 * every_s + rig.soon_s / 10 else failed(told)


@case(
    "heartbeat-between-events",
    "silence",
    "A heartbeat never lands inside an event that the engine has half written.",
    "dativo-io/talon#393",
)
async def heartbeat_between_events(rig: Rig) -> Finding:
    """Write half an event, pause for heartbeats, write the rest."""
    every_s = rig.timings.heartbeat_s
    if not every_s:
        return skipped("say the gateway's interval with --heartbeat-ms")
    events = [chunks.role("chatcmpl-slow"), chunks.delta("chatcmpl-slow", "one event, slowly written")]
    events += [chunks.finish("chatcmpl-slow"), chunks.DONE]

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(events[0], chunks.delta("chatcmpl-slow", "whole "))
        await x.send(events[1][:120])
        await x.silence(2.5 * every_s)
        await x.send(events[1][120:], *events[2:])
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan, within_s=3 * every_s + rig.patience_s)
    sent = b"".join([events[0], chunks.delta("chatcmpl-slow", "whole "), *events[1:]])
    return passed(kept(answer, sent))


@case(
    "ids-and-pings",
    "silence",
    "Whatever an engine sends, the client never gets ids, retry advice and blank-lined comments in the mixture that "
    "openai-python loses a stream over.",
    "openai/openai-python#2722",
    "openai/openai-python#3833",
    "theopenco/llmgateway#2334",
)
async def ids_and_pings(rig: Rig) -> Finding:
    """Send ids, a retry field and comments as sse-starlette does."""

    async def script(x: Exchange) -> None:
        id_ = "chatcmpl-ids"
        await x.stream()
        await x.send(b"retry: 3000\n\n", b"id: 1\n" + chunks.role(id_), b": ping\n\n")
        await x.send(b"id: 2\n" + chunks.delta(id_, "safe"), b": ping\n\n")
        await asyncio.sleep(0.05)
        await x.send(b"id: 3\n" + chunks.finish(id_), b"id: 4\n" + chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
    if answer.status != 200 or b"safe" not in answer.body:
        raise UnmetError(f"no stream: {said(answer)}")
    if lost := sse.lost_by_sdk(answer.body):
        return failed(f"openai-python loses the stream: {lost}")
    return passed("read whole by openai-python's rule")
