"""Headrace's own extensions: judged only where the gateway shows that it has them (design: resume)."""

from __future__ import annotations

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange
from loadtest.conform.case import Finding, case, failed, passed, skipped
from loadtest.conform.http import request
from loadtest.conform.judge import said
from loadtest.conform.rig import Rig, engine

_RESUME = {"X-Headrace-Resume": "30"}
_WORDS = [f"word{number} " for number in range(40)]
_WANTS = "ggml-org/llama.cpp#23226"


async def _dropped(rig: Rig, drop_after: int) -> tuple[str, bytes]:
    """Open a resumable stream and drop it after so many events; return its id and what came, or an empty id."""

    async def script(x: Exchange) -> None:
        await engine(x, "chatcmpl-resume", _WORDS, pace_s=0.01)

    async with rig.plan(script) as plan, rig.channel() as channel:
        await channel.send(request(rig.target, rig.body(plan), headers=_RESUME))
        answer = await channel.head()
        stream = answer.headers.get("x-headrace-stream", "")
        if stream:
            while len(sse.payloads(answer.body)) < drop_after and await channel.more(answer):
                pass
            channel.reset()
            await (await plan.exchange(rig.patience_s)).over.wait()
    return stream, answer.body


@case(
    "resume",
    "headrace",
    "A dropped resumable stream goes on where it stopped: no event lost, none twice.",
    _WANTS,
    "recoupable/chat#1924",
    needs="headrace",
)
async def resume(rig: Rig) -> Finding:
    """Drop a stream and ask for the rest."""
    stream, before = await _dropped(rig, 10)
    if not stream:
        return skipped("the gateway offers no X-Headrace-Stream")
    seen = sse.events(before)
    if not seen[-1].id:
        return failed("a resumable stream without ids")
    answer = await rig.exchange(
        request(
            rig.target,
            method="GET",
            path=f"/v1/streams/{stream}",
            headers={"Last-Event-ID": seen[-1].id.decode("latin-1")},
        )
    )
    text = sse.text_of([event.data for event in seen] + sse.payloads(answer.body))
    if text != "".join(_WORDS) or sse.DONE not in sse.payloads(answer.body):
        return failed(f"joined text has {len(text)} of {len(''.join(_WORDS))} characters; {said(answer)}")
    return passed(f"dropped after {len(seen)} events, joined text exact")


@case(
    "resume-sdk-safe",
    "headrace",
    "With ids on, openai-python still reads the stream.",
    "openai/openai-python#2722",
    needs="headrace",
)
async def resume_sdk_safe(rig: Rig) -> Finding:
    """Read a stream with ids by openai-python's rule."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-ids"), chunks.delta("chatcmpl-ids", "ids "))
        await x.silence(2.5 * rig.timings.heartbeat_s)
        await x.send(chunks.delta("chatcmpl-ids", "and pings"), chunks.finish("chatcmpl-ids"), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.exchange(request(rig.target, rig.body(plan), headers=_RESUME))
    if "x-headrace-stream" not in answer.headers:
        return skipped("the gateway offers no X-Headrace-Stream")
    lost = sse.lost_by_sdk(answer.body)
    return failed(f"lost: {lost}") if lost else passed(f"{sse.comments(answer.body)} heartbeats among ids")


@case(
    "resume-unknown",
    "headrace",
    "A stream id that nobody issued is a 404.",
    "frontmcp GHSA-84j6",
    needs="headrace",
)
async def resume_unknown(rig: Rig) -> Finding:
    """Forge an id."""
    stream, _ = await _dropped(rig, 1)
    if not stream:
        return skipped("the gateway offers no X-Headrace-Stream")
    forged = stream[:-4] + ("aaaa" if not stream.endswith("aaaa") else "bbbb")
    answer = await rig.exchange(request(rig.target, method="GET", path=f"/v1/streams/{forged}"))
    return passed("404") if answer.status == 404 else failed(said(answer))
