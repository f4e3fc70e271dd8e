"""Basics: what any stream and any whole answer of the gateway looks like; needs nothing but the gateway."""

from __future__ import annotations

import json

from loadtest.conform import sse
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.http import request
from loadtest.conform.judge import UnmetError, error_body, finishes, said
from loadtest.conform.rig import Rig

_SDK = "openai/openai-python (stream decoder)"


@case(
    "stream-content-type",
    "basics",
    "A stream is text/event-stream with status 200.",
    "WHATWG event streams",
    needs="gateway",
)
async def stream_content_type(rig: Rig) -> Finding:
    """Look at one stream's head."""
    answer = await rig.ask()
    kind = answer.headers.get("content-type", "")
    good = answer.status == 200 and kind.split(";")[0].strip().lower() == "text/event-stream"
    return passed(f"200, {kind}") if good else failed(f"{answer.status}, {kind or 'no content-type'}")


@case(
    "stream-length",
    "basics",
    "A stream carries no Content-Length and no Content-Encoding.",
    "envoyproxy/ai-gateway#2391",
    needs="gateway",
)
async def stream_length(rig: Rig) -> Finding:
    """Look for fields that a stream cannot have, with an offer of gzip."""
    answer = await rig.exchange(request(rig.target, rig.body(), headers={"Accept-Encoding": "gzip, br"}))
    odd = {name: answer.headers[name] for name in ("content-length", "content-encoding") if name in answer.headers}
    return failed(str(odd)) if odd else passed(f"{answer.status}, neither; {answer.outcome}")


@case(
    "stream-caching",
    "basics",
    "A stream says that nobody on the way may store or buffer it.",
    "BerriAI/litellm#26102",
    "nginx (X-Accel-Buffering)",
    needs="gateway",
    severity="should",
)
async def stream_caching(rig: Rig) -> Finding:
    """Look at Cache-Control and X-Accel-Buffering."""
    answer = await rig.ask()
    control = answer.headers.get("cache-control", "").lower()
    if ("max-age" in control and "max-age=0" not in control) or "public" in control:
        return failed(f"invites caching: {control}")
    missing = []
    if "no-cache" not in control and "no-store" not in control:
        missing.append("Cache-Control: no-cache")
    if answer.headers.get("x-accel-buffering", "").lower() != "no":
        missing.append("X-Accel-Buffering: no")
    return deviation(f"lacks {' and '.join(missing)}") if missing else passed("both are there")


@case(
    "done-once",
    "basics",
    "A good stream ends with exactly one `[DONE]` and nothing after it.",
    "BerriAI/litellm#39748",
    needs="gateway",
)
async def done_once(rig: Rig) -> Finding:
    """Count `[DONE]`."""
    answer = await rig.ask()
    found = sse.payloads(answer.body)
    count = found.count(sse.DONE)
    if count != 1 or found[-1] != sse.DONE:
        return failed(f"{count} times [DONE]; {said(answer)}")
    return passed(said(answer)) if answer.whole else failed(f"after [DONE] the body is {answer.outcome}")


@case(
    "chunk-shape",
    "basics",
    "Each event of a stream is a chat.completion.chunk with a list of choices.",
    "openai/openai-python (chunk model)",
    needs="gateway",
)
async def chunk_shape(rig: Rig) -> Finding:
    """Parse every event."""
    answer = await rig.ask()
    found = [event for event in sse.events(answer.body) if event.data != sse.DONE]
    for event in found:
        chunk = event.json
        if not isinstance(chunk, dict) or chunk.get("object") != "chat.completion.chunk":
            return failed(f"no chunk: {event.data[:100]!r}")
        if not isinstance(chunk.get("choices"), list):
            return failed(f"no choices: {event.data[:100]!r}")
    return passed(f"{len(found)} chunks") if found else failed(f"no events: {said(answer)}")


@case(
    "finish-once",
    "basics",
    "Each choice has exactly one finish_reason.",
    "openai/openai-python (chunk model)",
    needs="gateway",
)
async def finish_once(rig: Rig) -> Finding:
    """Count finish_reasons."""
    answer = await rig.ask()
    found = finishes(sse.payloads(answer.body))
    return passed(found[0]) if len(found) == 1 else failed(f"{len(found)} finish_reasons {found}; {said(answer)}")


@case(
    "sdk-safe",
    "basics",
    "openai-python reads the stream to its end.",
    _SDK,
    "openai/openai-python#2722",
    needs="gateway",
)
async def sdk_safe(rig: Rig) -> Finding:
    """Apply openai-python's rule to a plain stream."""
    answer = await rig.ask()
    if answer.status != 200:
        raise UnmetError(said(answer))
    lost = sse.lost_by_sdk(answer.body)
    return failed(f"lost: {lost}") if lost else passed(f"{len(sse.payloads(answer.body))} events read")


@case(
    "whole-answer",
    "basics",
    "A non-streaming answer is one JSON object with a message and usage.",
    "BerriAI/litellm#9657",
    needs="gateway",
)
async def whole_answer(rig: Rig) -> Finding:
    """Ask without streaming."""
    answer = await rig.ask(stream=False)
    kind = answer.headers.get("content-type", "")
    try:
        body = json.loads(answer.body)
        text = body["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return failed(f"no message: {said(answer)}")
    if answer.status != 200 or not kind.startswith("application/json") or not isinstance(text, str):
        return failed(f"{answer.status}, {kind}, content {text!r:.40}")
    if not isinstance(body.get("usage"), dict):
        return failed(f"no usage among {', '.join(body)}")
    return passed(f"{len(answer.body)} bytes, {body['usage'].get('total_tokens')} tokens")


@case(
    "models-list",
    "basics",
    "`GET /v1/models` lists the models, the one under test among them.",
    "openai/openai-python (models.list)",
    needs="gateway",
    severity="should",
)
async def models_list(rig: Rig) -> Finding:
    """List models."""
    answer = await rig.exchange(request(rig.target, method="GET", path="/v1/models"))
    try:
        listed = [model["id"] for model in json.loads(answer.body)["data"]]
    except (ValueError, LookupError, TypeError):
        return failed(f"no list: {said(answer)}")
    if rig.target.model not in listed:
        return failed(f"{rig.target.model} is not among {listed[:5]}")
    return passed(f"{len(listed)} models")


@case(
    "request-id",
    "basics",
    "`X-Request-Id` comes back, so that a complaint can be found in the logs.",
    "vllm-project/production-stack (X-Request-Id echo)",
    needs="gateway",
    severity="should",
)
async def request_id(rig: Rig) -> Finding:
    """Send two ids."""
    got = []
    for name in ("conform-first", "conform-second"):
        answer = await rig.exchange(request(rig.target, rig.body(), headers={"X-Request-Id": name}))
        got.append(answer.headers.get("x-request-id"))
    if got == ["conform-first", "conform-second"]:
        return passed("echoed")
    if got[0] is not None and got[0] == got[1]:
        return failed(f"two requests have the id {got[0]}")
    return deviation("no X-Request-Id" if got[0] is None else f"another id: {got[0]}")


@case(
    "abandoned-streams",
    "basics",
    "After sixteen abandoned streams the gateway serves as before.",
    "sgl-project/sglang#36876",
    "vllm-project/production-stack#448",
    needs="gateway",
    alone=True,
)
async def abandoned_streams(rig: Rig) -> Finding:
    """Leave sixteen streams in different ways."""
    for number in range(16):
        async with rig.asking() as channel:
            if number % 2:
                await channel.more(await channel.head())
            if number % 4 < 2:
                channel.close()
    answer = await rig.ask()
    good = answer.status == 200 and sse.DONE in sse.payloads(answer.body)
    return passed(said(answer)) if good else failed(f"the next request got {said(answer)}")


@case(
    "streaming-usage",
    "basics",
    "`include_usage` brings one usage chunk with whole figures.",
    "BerriAI/litellm#8450",
    needs="gateway",
    severity="should",
)
async def streaming_usage(rig: Rig) -> Finding:
    """Ask for usage and check the sum."""
    answer = await rig.ask(stream_options={"include_usage": True})
    if error_body(answer):
        return failed(said(answer))
    found = [event.json["usage"] for event in sse.events(answer.body) if event.json and event.json.get("usage")]
    if len(found) != 1:
        return failed(f"{len(found)} usage chunks")
    used = found[0]
    if used.get("prompt_tokens", 0) + (used.get("completion_tokens") or 0) != used.get("total_tokens"):
        return failed(f"figures do not add up: {json.dumps(used)[:100]}")
    return passed(f"{used['prompt_tokens']} + {used['completion_tokens']} = {used['total_tokens']}")
