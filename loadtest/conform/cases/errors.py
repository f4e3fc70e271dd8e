"""Errors: an engine's refusal keeps its meaning on the way to the client."""

from __future__ import annotations

import json

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange, Script
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.http import Answer
from loadtest.conform.judge import UnmetError, error_body, said
from loadtest.conform.rig import Rig


def _refusal(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> Script:
    async def script(x: Exchange) -> None:
        await x.answer(status, body, content_type, **headers)

    return script


async def _ask(rig: Rig, script: Script, *, stream: bool = True) -> Answer:
    async with rig.plan(script) as plan:
        answer = await rig.ask(plan, stream=stream)
    if not answer.whole:
        raise UnmetError(f"no whole answer: {said(answer)}")
    return answer


@case(
    "4xx-verbatim",
    "errors",
    "An engine's verdict on the request (400) reaches the client with its status and body.",
    "BerriAI/litellm#18757",
    "vllm-project/vllm (captured)",
)
async def verbatim(rig: Rig) -> Finding:
    """Refuse with vLLM's validation error."""
    body = chunks.error("max_tokens must be at least 1, got -3. (conform)", 400, param="max_tokens")
    answer = await _ask(rig, _refusal(400, body))
    if answer.status != 400:
        return failed(f"status {answer.status} for the engine's 400: {said(answer)}")
    if answer.body == body:
        return passed("400, body identical")
    if b"(conform)" in answer.body:
        return deviation(f"400, body written anew: {answer.body[:120]!r}")
    return failed(f"400, but the engine's message is lost: {answer.body[:120]!r}")


@case("5xx", "errors", "An engine's failure before any token is a 5xx with an error body.", "BerriAI/litellm#39748")
async def server_error(rig: Rig) -> Finding:
    """Answer 500."""
    answer = await _ask(
        rig, _refusal(500, chunks.error("EngineCore encountered an issue", 500, "InternalServerError"))
    )
    if answer.status < 500:
        return failed(f"status {answer.status} for the engine's 500: {said(answer)}")
    if error_body(answer) is None:
        return deviation(f"{answer.status} without an OpenAI error body: {answer.body[:80]!r}")
    return passed(f"{answer.status}, {(error_body(answer) or {}).get('message', '')[:80]}")


@case(
    "5xx-html",
    "errors",
    "An engine's proxy error page becomes an error body that an SDK can read.",
    "openai/openai-python (error classes)",
    severity="should",
)
async def html_error(rig: Rig) -> Finding:
    """Answer 502 with HTML."""
    answer = await _ask(rig, _refusal(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html"))
    if answer.status < 500:
        return failed(f"status {answer.status} for a 502 page: {said(answer)}")
    if error_body(answer) is None:
        return deviation(f"{answer.status}, handed on: {answer.body[:60]!r}")
    return passed(f"{answer.status} with an OpenAI error body")


@case(
    "busy",
    "errors",
    "A full engine (503) reaches the client as 429 or 503 that says when to try again.",
    "vllm-project/vllm#58192",
    "openai/openai-python (retry headers)",
)
async def busy(rig: Rig) -> Finding:
    """Answer 503 with Retry-After, every time."""
    body = chunks.error("The engine is currently busy.", 503, "Service Unavailable")
    answer = await _ask(rig, _refusal(503, body, retry_after="7"))
    if answer.status not in (429, 503):
        return failed(f"status {answer.status} for the engine's 503: {said(answer)}")
    advice = {name: answer.headers[name] for name in ("retry-after", "retry-after-ms") if name in answer.headers}
    return passed(f"{answer.status}, {advice}") if advice else deviation(f"{answer.status} without Retry-After")


@case(
    "rate-limited",
    "errors",
    "An engine's 429 stays a 429, so that SDKs back off.",
    "openai/openai-python (retry headers)",
)
async def rate_limited(rig: Rig) -> Finding:
    """Answer 429."""
    answer = await _ask(rig, _refusal(429, chunks.error("slow down", 429, "rate_limit_error"), retry_after="3"))
    return passed("429") if answer.status == 429 else failed(f"status {answer.status}: {said(answer)}")


@case(
    "error-frame-first",
    "errors",
    "An error frame in place of the first event becomes a real HTTP status.",
    "BerriAI/litellm#18757",
    "vllm-project/vllm (captured: bad json_schema)",
)
async def error_frame_first(rig: Rig) -> Finding:
    """Answer 200, then an error frame with code 400, as vLLM does for a bad schema."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.event(chunks.error("Unsupported type in json schema", 400)), chunks.DONE)
        await x.end()

    answer = await _ask(rig, script)
    if answer.status == 400:
        return passed("status 400")
    if answer.status > 400:
        return deviation(f"status {answer.status} for an error frame with code 400")
    if told := sse.told_error(answer):
        return deviation(f"200, then the {told}")
    return failed(f"the error is lost: {said(answer)}")


@case(
    "engine-401",
    "errors",
    "When the engine refuses the gateway's own key, the client is not told that its key is wrong.",
    "vllm-project/vllm (captured)",
    severity="should",
)
async def engine_401(rig: Rig) -> Finding:
    """Answer 401 in vLLM's shape, which is no OpenAI envelope."""
    answer = await _ask(rig, _refusal(401, b'{"error":"Unauthorized"}'))
    if answer.status < 400:
        return failed(f"status {answer.status}: {said(answer)}")
    if answer.status in (401, 403):
        return deviation(f"{answer.status}: the client will look for a fault in its own key")
    return passed(f"{answer.status}")


@case(
    "closed-without-answer",
    "errors",
    "An engine that closes without an answer gives a 5xx in good time.",
    "envoyproxy/ai-gateway#1894",
)
async def closed_without_answer(rig: Rig) -> Finding:
    """Close each attempt before a byte."""

    async def script(x: Exchange) -> None:
        # A kept connection that is closed in order is merely old (see stale-connection); a reset is not.
        if x.earlier:
            x.reset()
        else:
            x.close()

    answer = await _ask(rig, script)
    if answer.status < 500:
        return failed(f"status {answer.status}: {said(answer)}")
    return passed(f"{answer.status}") if error_body(answer) else deviation(f"{answer.status}, no OpenAI error body")


@case(
    "no-stream",
    "errors",
    "A 200 that is no event stream, in answer to `stream: true`, ends in an answer or an error, not in silence.",
    "envoyproxy/ai-gateway#1894",
)
async def no_stream(rig: Rig) -> Finding:
    """Answer a streaming request with a whole JSON body."""
    body = chunks.completion("chatcmpl-whole", "not a stream")
    answer = await _ask(rig, _refusal(200, body))
    if answer.status >= 500:
        return passed(f"status {answer.status}")
    if b"not a stream" in answer.body:
        return passed(f"handed on as {answer.headers.get('content-type', '?')}")
    if told := sse.told_error(answer):
        return passed(told)
    return failed(f"the answer is lost and nobody is told: {said(answer)}")


@case(
    "empty-stream",
    "errors",
    "A stream that ends before its first event is an error, not an empty success.",
    "envoyproxy/ai-gateway#1894",
    "maximhq/bifrost#5546",
)
async def empty_stream(rig: Rig) -> Finding:
    """End an event stream that held nothing."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.end()

    answer = await _ask(rig, script)
    if answer.status >= 500:
        return passed(f"status {answer.status}")
    if told := sse.told_error(answer):
        return passed(told)
    return failed(f"looks like an empty answer: {said(answer)}")


@case(
    "nonstream-verbatim",
    "errors",
    "A non-streaming answer's body is handed on unchanged.",
    "vllm-project/vllm (captured)",
)
async def nonstream_verbatim(rig: Rig) -> Finding:
    """Answer with fields and spacing that no serialiser would write the same way."""
    body = chunks.completion("chatcmpl-verbatim", "verbatim é \u4e2d", zeta=1.0, alpha={"b": 1e-7})
    body = body.replace(b'"object":', b'"object" :  ').replace("é".encode(), b"\\u00e9")
    answer = await _ask(rig, _refusal(200, body), stream=False)
    if answer.status == 200 and answer.body == body:
        return passed(f"{len(body)} bytes identical")
    try:
        text = json.loads(answer.body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        text = None
    if text == "verbatim é \u4e2d":
        return deviation(f"written anew: {answer.body[:100]!r}")
    return failed(f"content changed: {said(answer)}")
