"""Retry: before the first event another engine may answer and nobody notices; after it nothing may be repeated."""

from __future__ import annotations

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange, Script
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.judge import content, error_body, said, stream_of
from loadtest.conform.rig import Rig, engine

_WORDS = ["the ", "second ", "attempt"]


def _then_good(first: Script) -> Script:
    async def script(x: Exchange) -> None:
        await (first(x) if x.attempt == 1 else engine(x, "chatcmpl-second", _WORDS))

    return script


async def _retried(rig: Rig, first: Script) -> Finding:
    async with rig.plan(_then_good(first)) as plan:
        answer = await rig.ask(plan)
        attempts = len(plan.exchanges)
    if answer.status >= 400 and answer.whole:
        named = "an" if error_body(answer) else "no"
        return deviation(f"not retried: {answer.status} with {named} OpenAI error body, {attempts} attempt(s)")
    if answer.status == 200 and (told := sse.told_error(answer)):
        return deviation(f"not retried: {told}")
    if answer.status == 200 and answer.cut:
        return deviation(f"not retried: the connection is {answer.cut}")
    text = content(stream_of(answer)).get(0, {}).get("text")
    if text != "".join(_WORDS):
        return failed(f"the client got {text!r} from {attempts} attempt(s)")
    roles = sum(b'"role":' in data for data in sse.payloads(answer.body))
    if roles > 1:
        return failed(f"{roles} role chunks: two attempts show through")
    return passed(f"{attempts} attempts, one clean answer")


async def _close(x: Exchange) -> None:
    # A kept connection that is closed in order is merely old (see stale-connection); a reset is not.
    if x.earlier:
        x.reset()
    else:
        x.close()


async def _busy(x: Exchange) -> None:
    await x.answer(503, chunks.error("The engine is currently busy.", 503, "Service Unavailable"))


async def _role_then_reset(x: Exchange) -> None:
    await x.stream()
    await x.send(chunks.role("chatcmpl-first"))
    await x.sent_all()
    x.reset()


async def _error_frame(x: Exchange) -> None:
    await x.stream()
    frame = chunks.error("cannot schedule new futures after shutdown", 500, "InternalServerError")
    await x.send(chunks.event(frame), chunks.DONE)
    await x.end()


@case(
    "retry-closed",
    "retry",
    "An engine that closes before it answered is replaced by another one.",
    "BerriAI/litellm#40404",
    needs="pair",
)
async def retry_closed(rig: Rig) -> Finding:
    """Close the first attempt, answer the second."""
    return await _retried(rig, _close)


@case(
    "retry-busy",
    "retry",
    "A full engine (503) is replaced by another one.",
    "vllm-project/vllm#13395",
    needs="pair",
    severity="should",
)
async def retry_busy(rig: Rig) -> Finding:
    """Refuse the first attempt, answer the second."""
    return await _retried(rig, _busy)


@case(
    "retry-after-role",
    "retry",
    "An engine that breaks after its role chunk, before the first token, is replaced, and one role chunk arrives.",
    "maximhq/bifrost#5395",
    needs="pair",
    severity="should",
)
async def retry_after_role(rig: Rig) -> Finding:
    """Send 200 and the role chunk, then reset; answer the second attempt."""
    return await _retried(rig, _role_then_reset)


@case(
    "retry-error-frame",
    "retry",
    "An error frame in place of the first event lets another engine answer.",
    "maximhq/bifrost#5395",
    "BerriAI/litellm#40404",
    needs="pair",
    severity="should",
)
async def retry_error_frame(rig: Rig) -> Finding:
    """Send 200 and an error frame with code 500; answer the second attempt."""
    return await _retried(rig, _error_frame)


@case(
    "no-repeat",
    "retry",
    "After the first token nothing is retried: no text arrives twice.",
    "BerriAI/litellm#18229",
    "BerriAI/litellm#31067",
)
async def no_repeat(rig: Rig) -> Finding:
    """Break after two tokens; a second attempt would tell the same again."""

    async def script(x: Exchange) -> None:
        if x.attempt > 1:
            await engine(x, "chatcmpl-repeat", ["ONCE ", "and ", "again"])
            return
        await x.stream()
        await x.send(chunks.role("chatcmpl-repeat"), chunks.delta("chatcmpl-repeat", "ONCE "))
        await x.send(chunks.delta("chatcmpl-repeat", "and "))
        await x.sent_all()
        x.reset()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
        attempts = len(plan.exchanges)
    text = sse.text_of(sse.payloads(answer.body))
    if text.count("ONCE") > 1:
        return failed(f"the client read {text!r}, {attempts} attempts")
    return passed(f"{attempts} attempt(s), text {text!r}")


@case(
    "no-retry-4xx",
    "retry",
    "A verdict on the request (400) is not asked for again elsewhere.",
    "vllm-project/vllm (captured)",
    severity="should",
)
async def no_retry_4xx(rig: Rig) -> Finding:
    """Refuse with 400 and count."""

    async def script(x: Exchange) -> None:
        await x.answer(400, chunks.error("no such tool", 400))

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
        attempts = len(plan.exchanges)
    told = f"{attempts} attempt(s), status {answer.status}"
    return passed(told) if attempts == 1 else failed(told)


@case(
    "stale-connection",
    "retry",
    "A kept connection that the engine closes as the request arrives costs the client nothing.",
    "vllm-project/vllm (captured: idle close after 5 s)",
    severity="should",
)
async def stale_connection(rig: Rig) -> Finding:
    """Close kept connections when a request arrives on them; fresh ones answer."""

    async def script(x: Exchange) -> None:
        if x.earlier and x.attempt == 1:
            x.close()
        else:
            await engine(x, "chatcmpl-kept", ["kept"])

    closed = 0
    for _ in range(4):
        async with rig.plan(script) as plan:
            answer = await rig.ask(plan)
            closed += len(plan.exchanges) > 1 or (answer.status != 200)
        if answer.status >= 500:
            return deviation(f"the client got {answer.status} for a connection that was merely old")
        if sse.text_of(stream_of(answer)) != "kept":
            return failed(said(answer))
    return passed(f"4 good answers, {closed} of them over a closed connection")
