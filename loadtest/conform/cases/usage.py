"""Usage: token counts for who asked, and for nobody else; and the request on its way to the engine."""

from __future__ import annotations

import json
from typing import Any

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.http import request
from loadtest.conform.judge import said, stream_of
from loadtest.conform.rig import Rig, engine


def _usages(payloads: list[bytes]) -> list[dict[str, Any]]:
    return [chunk for data in payloads if (chunk := json.loads(data)).get("usage")]


@case(
    "usage-asked",
    "usage",
    "`include_usage` brings one usage chunk, without choices, right before `[DONE]`, with the engine's figures.",
    "BerriAI/litellm#8450",
    "BerriAI/litellm#36114",
    "BerriAI/litellm#23847",
)
async def usage_asked(rig: Rig) -> Finding:
    """Ask for usage."""

    async def script(x: Exchange) -> None:
        await engine(x, plan.id, ["one ", "two ", "three"])

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan, stream_options={"include_usage": True})
        asked = plan.exchanges[0].usage_asked
    got = stream_of(answer)
    found = _usages(got)
    if len(found) != 1 or found[0] != json.loads(got[-1]):
        return failed(f"{len(found)} usage chunks, asked of the engine: {asked}; last event {got[-1][:80]!r}")
    figures = found[0]["usage"]
    if (figures.get("prompt_tokens"), figures.get("completion_tokens")) != (7, 11):
        return failed(f"the engine's 7 + 11 became {json.dumps(figures)[:100]}")
    if found[0].get("choices") != []:
        return deviation(f"the usage chunk has choices: {json.dumps(found[0].get('choices'))[:100]}")
    return passed("one usage chunk, 7 + 11")


@case(
    "usage-not-asked",
    "usage",
    "Who did not ask for usage gets no usage chunk, also where the gateway counts for itself.",
    "BerriAI/litellm#9657",
    severity="should",
)
async def usage_not_asked(rig: Rig) -> Finding:
    """Do not ask for usage."""

    async def script(x: Exchange) -> None:
        await engine(x, plan.id, ["one ", "two"])

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
        asked = plan.exchanges[0].usage_asked
    found = _usages(stream_of(answer))
    told = f"{len(found)} usage chunks; the gateway asked the engine: {asked}"
    return failed(told) if found else passed(told)


@case(
    "request-faithful",
    "usage",
    "Messages and parameters reach the engine as the client sent them, also fields that the gateway does not know.",
    "BerriAI/litellm#18229",
)
async def request_faithful(rig: Rig) -> Finding:
    """Send odd but legal fields."""

    async def script(x: Exchange) -> None:
        await engine(x, plan.id, ["ok"])

    async with rig.plan(script) as plan:
        odd: dict[str, Any] = {
            "temperature": 0.1,
            "top_p": 1.0,
            "seed": 9007199254740993,
            "min_p": 0.05,
            "x_conform": {"b": [1e-7]},
        }
        messages = [
            {"role": "system", "content": "Stay as you are. é\u2028"},
            {"role": "user", "content": plan.prompt},
        ]
        answer = await rig.ask(plan, **odd, messages=messages)
        stream_of(answer)
        got = plan.exchanges[0].json
    if got.get("messages") != messages:
        return failed(f"messages became {json.dumps(got.get('messages'))[:160]}")
    changed = {key: got.get(key) for key, value in odd.items() if got.get(key) != value}
    if any(value is not None for value in changed.values()):
        return failed(f"changed on the way: {json.dumps(changed)[:160]}")
    return (
        deviation(f"not passed on: {', '.join(changed)}") if changed else passed("messages and 5 odd fields intact")
    )


@case(
    "trace-context",
    "usage",
    "W3C trace context reaches the engine under the client's trace id.",
    "W3C Trace Context",
    severity="should",
)
async def trace_context(rig: Rig) -> Finding:
    """Send a traceparent."""

    async def script(x: Exchange) -> None:
        await engine(x, plan.id, ["traced"])

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with rig.plan(script) as plan:
        sent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        answer = await rig.exchange(request(rig.target, rig.body(plan), headers=sent))
        if not plan.exchanges:
            return failed(f"not passed on at all: {said(answer)}")
        got = plan.exchanges[0].headers.get("traceparent")
    if got is None:
        return deviation("no traceparent at the engine")
    return passed(got) if trace in got else failed(f"another trace: {got}")


@case(
    "long-prompt",
    "usage",
    "A prompt of 400 KiB reaches the engine whole.",
    "nginx (client_max_body_size)",
)
async def long_prompt(rig: Rig) -> Finding:
    """Send a long prompt."""

    async def script(x: Exchange) -> None:
        await engine(x, plan.id, ["read"])

    async with rig.plan(script) as plan:
        text = "0123456789abcdé " * 25_600
        messages = [{"role": "user", "content": f"{plan.prompt} {text}"}]
        answer = await rig.ask(plan, messages=messages)
        if not plan.exchanges:
            return failed(f"refused: {said(answer)}")
        got = plan.exchanges[0].json.get("messages")
    if got != messages or sse.text_of(stream_of(answer)) != "read":
        return failed("the prompt changed on the way")
    return passed(f"{len(text.encode()) // 1024} KiB intact")


@case(
    "one-identity",
    "usage",
    "An engine's chunks keep one id and one creation time over the whole stream.",
    "openai/openai-python (chunk model)",
    severity="should",
)
async def one_identity(rig: Rig) -> Finding:
    """Compare ids and times of all chunks."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id))
        for word in ("one ", "two ", "three"):
            await x.send(chunks.delta(plan.id, word))
        await x.send(chunks.finish(plan.id), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
    found = [json.loads(data) for data in stream_of(answer)]
    ids = {chunk.get("id") for chunk in found}
    created = {chunk.get("created") for chunk in found}
    if len(ids) > 1 or len(created) > 1:
        return failed(f"ids {sorted(map(str, ids))[:3]}, created {sorted(map(str, created))[:3]}")
    return passed(f"id {ids.pop()}") if ids == {plan.id} else deviation(f"another id than the engine's: {ids.pop()}")
