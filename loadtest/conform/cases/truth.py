"""Truth: a truncated answer never looks complete."""

from __future__ import annotations

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange, Script
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.http import Answer
from loadtest.conform.judge import UnmetError, finishes, said
from loadtest.conform.rig import Rig


async def _broken(rig: Rig, script: Script) -> Answer:
    """Ask, have the engine fail after some tokens, and return what the client got."""
    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
    if not answer.whole and not answer.cut:
        raise UnmetError(f"the stream hangs after the engine failed: {said(answer)}")
    return answer


def _told(answer: Answer) -> Finding:
    """Judge whether a client knows that the answer is incomplete."""
    if answer.status >= 400:
        return passed(f"told by status {answer.status}")
    if told := sse.told_error(answer):
        return passed(told)
    if answer.cut:
        return deviation(f"the connection is {answer.cut} in mid-body: noticed, but nobody says why")
    return failed(f"the stream ends well, SDKs raise nothing: {said(answer)}")


async def _some(x: Exchange) -> None:
    await x.stream()
    await x.send(chunks.role("chatcmpl-broken"), chunks.delta("chatcmpl-broken", "An answer that"))
    await x.send(chunks.delta("chatcmpl-broken", " breaks"))
    await x.sent_all()


async def _reset(x: Exchange) -> None:
    await _some(x)
    x.reset()


async def _eof(x: Exchange) -> None:
    await _some(x)
    x.close()


@case(
    "reset-mid-stream",
    "truth",
    "When the engine's connection is reset in mid-stream, the client is told in the stream.",
    "maximhq/bifrost#5546",
    "BerriAI/litellm#39748",
)
async def reset_mid_stream(rig: Rig) -> Finding:
    """Send RST after three events."""
    return _told(await _broken(rig, _reset))


@case(
    "eof-mid-stream",
    "truth",
    "When the engine's connection is closed without HTTP's last chunk, the client is told in the stream.",
    "maximhq/bifrost#5546",
    "vllm-project/vllm (captured: SIGKILL)",
)
async def eof_mid_stream(rig: Rig) -> Finding:
    """Send FIN after three events, as a killed vLLM does."""
    return _told(await _broken(rig, _eof))


@case(
    "no-done",
    "truth",
    "A body that ends well without finish_reason and `[DONE]` is not handed on as a complete answer.",
    "maximhq/bifrost#5546",
    "ggml-org/llama.cpp (captured: SIGTERM)",
)
async def no_done(rig: Rig) -> Finding:
    """End the body as HTTP says, in the middle of the answer."""

    async def script(x: Exchange) -> None:
        await _some(x)
        await x.end()

    return _told(await _broken(rig, script))


@case(
    "no-finish-reason",
    "truth",
    "`[DONE]` without any finish_reason is told as an error, and no finish_reason is made up.",
    "maximhq/bifrost#5546",
)
async def no_finish_reason(rig: Rig) -> Finding:
    """Send `[DONE]` in the middle of the answer."""

    async def script(x: Exchange) -> None:
        await _some(x)
        await x.send(chunks.DONE)
        await x.end()

    answer = await _broken(rig, script)
    if finishes(sse.payloads(answer.body)):
        return failed(f"made up a finish_reason: {said(answer)}")
    found = _told(answer)
    if found.verdict == "fail":
        return deviation("handed on as it came: only a missing finish_reason tells")
    return found


@case(
    "no-invented-finish",
    "truth",
    "A failed answer gets no finish_reason that the engine did not send.",
    "maximhq/bifrost#5546",
    "BerriAI/litellm#39748",
)
async def no_invented_finish(rig: Rig) -> Finding:
    """Break off and look for a finish_reason."""
    answer = await _broken(rig, _eof)
    told = finishes(sse.payloads(answer.body))
    return failed(f"finish_reason {told} was made up") if told else passed("none")


@case(
    "half-event",
    "truth",
    "What follows a half-written event is not glued to it: each event that arrives is whole.",
    "dativo-io/talon#393",
)
async def half_event(rig: Rig) -> Finding:
    """Break off inside an event."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-half"), chunks.delta("chatcmpl-half", "half"))
        await x.send(chunks.delta("chatcmpl-half", "a half-written event")[:-40])
        await x.sent_all()
        x.close()

    answer = await _broken(rig, script)
    for event in sse.events(answer.body):
        if event.data != sse.DONE and event.json is None:
            return failed(f"an event that is no JSON: {event.data[-80:]!r}")
    told = sse.told_error(answer)
    return passed(told or f"no broken event; {answer.outcome}")


@case(
    "error-frame",
    "truth",
    "An engine's error frame in mid-stream reaches the client.",
    "BerriAI/litellm#39748",
    "BerriAI/litellm#40404",
)
async def error_frame(rig: Rig) -> Finding:
    """Send an error frame and `[DONE]`, as vLLM does."""

    async def script(x: Exchange) -> None:
        await _some(x)
        await x.send(chunks.event(chunks.error("EngineCore died", 500, "InternalServerError")), chunks.DONE)
        await x.end()

    return _told(await _broken(rig, script))


@case(
    "done-after-error",
    "truth",
    "After an error frame the stream ends in `[DONE]` and a whole body, so that nobody waits for more.",
    "BerriAI/litellm#39748",
    severity="should",
)
async def done_after_error(rig: Rig) -> Finding:
    """Send an error frame without `[DONE]` and look at the very end."""

    async def script(x: Exchange) -> None:
        await _some(x)
        await x.send(chunks.event(chunks.error("out of memory", 503, "Service Unavailable")))
        await x.end()

    answer = await _broken(rig, script)
    if not sse.told_error(answer):
        return deviation("there is no error frame")
    last = sse.payloads(answer.body)[-1]
    if last == sse.DONE and answer.whole:
        return passed("error frame, [DONE], end of the body")
    return deviation(f"the last event is {last[:60]!r}, {answer.outcome}")


@case(
    "broken-whole-answer",
    "truth",
    "A non-streaming answer that broke off is not handed on as a complete one.",
    "maximhq/bifrost#5546",
)
async def broken_whole_answer(rig: Rig) -> Finding:
    """Reset in the middle of a JSON body."""

    async def script(x: Exchange) -> None:
        body = chunks.completion("chatcmpl-cut", "a whole answer that is not whole")
        await x.head(200, content_type="application/json", content_length=str(len(body)))
        await x.send(body[:80])
        await x.sent_all()
        x.reset()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan, stream=False)
    if answer.status >= 500:
        return passed(f"status {answer.status}")
    if not answer.whole:
        return deviation(f"status {answer.status}, then {answer.outcome} in mid-body")
    return failed(said(answer))


@case(
    "pool-after-break",
    "truth",
    "The request after a broken stream is served well.",
    "vllm-project/production-stack#707",
    alone=True,
)
async def pool_after_break(rig: Rig) -> Finding:
    """Break, ask again, twice."""

    async def broken(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-pool"), chunks.delta("chatcmpl-pool", "An answer that breaks"))
        await x.sent_all()

    async def reset(x: Exchange) -> None:
        await broken(x)
        x.reset()

    async def close(x: Exchange) -> None:
        await broken(x)
        x.close()

    async def good(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role("chatcmpl-next"), chunks.delta("chatcmpl-next", "well"))
        await x.send(chunks.finish("chatcmpl-next"), chunks.DONE)
        await x.end()

    for script in (reset, close):
        async with rig.plan(script) as plan:
            await rig.ask(plan)
        async with rig.plan(good) as plan:
            answer = await rig.ask(plan)
        if sse.text_of(sse.payloads(answer.body)) != "well":
            return failed(f"the next request got {said(answer)}")
    return passed("two breaks, two good answers after them")
