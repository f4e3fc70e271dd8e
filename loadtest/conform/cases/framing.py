"""Framing: bytes may arrive in any pieces; what a client reads must not depend on where they were cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from loadtest.conform import chunks, sse
from loadtest.conform.backend import Exchange, Plan
from loadtest.conform.case import Finding, case, deviation, failed, passed
from loadtest.conform.judge import UnmetError, content, difference, kept, stream_of
from loadtest.conform.rig import Rig

_VLLM = "vllm-project/vllm (captured)"


def _answer(plan_id: str, words: Sequence[str]) -> list[bytes]:
    return [
        chunks.role(plan_id),
        *(chunks.delta(plan_id, word) for word in words),
        chunks.finish(plan_id),
        chunks.DONE,
    ]


async def _relayed(rig: Rig, parts: list[bytes], *, as_answer_of: bytes | None = None, gap_s: float = 0.0) -> Finding:
    """Send `parts`, each in a chunk of its own; pass if the client's content is that of the whole."""

    async def script(x: Exchange) -> None:
        await x.stream()
        for part in parts:
            await x.send(part)
            await asyncio.sleep(gap_s)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
    return passed(f"{len(parts)} pieces; {kept(answer, as_answer_of or b''.join(parts))}")


@case(
    "split-anywhere",
    "framing",
    "A stream that arrives one byte at a time reads as if it had come in one piece.",
    "katanemo/plano#980",
)
async def split_anywhere(rig: Rig) -> Finding:
    """Cut at every byte."""
    whole = b"".join(_answer("chatcmpl-split", ["Split"]))
    return await _relayed(rig, [whole[i : i + 1] for i in range(len(whole))])


@case("crlf", "framing", "Lines may end in CRLF, also where a read ends between CR and LF.", "WHATWG event streams")
async def crlf(rig: Rig) -> Finding:
    """Send CRLF lines, cut between CR and LF."""
    whole = b"".join(_answer("chatcmpl-crlf", ["C", "R", "L", "F"])).replace(b"\n", b"\r\n")
    parts = [part + b"\r" for part in whole.split(b"\r")][:-1]
    parts[-1] += b"\n"
    return await _relayed(rig, parts, gap_s=0.002)


@case(
    "utf8-split",
    "framing",
    "A character whose bytes arrive in two reads is neither lost nor replaced.",
    "katanemo/plano#980",
)
async def utf8_split(rig: Rig) -> Finding:
    """Cut inside every multi-byte character."""
    whole = b"".join(_answer("chatcmpl-utf8", ["流れ", "é", "🜂🜄", "語"]))
    parts: list[bytes] = []
    start = 0
    for at, byte in enumerate(whole):
        if byte >= 0xC0:
            parts.append(whole[start : at + 1])
            start = at + 1
    return await _relayed(rig, [*parts, whole[start:]], gap_s=0.005)


@case(
    "many-in-one",
    "framing",
    "Many events in one read all arrive, in order.",
    "ggml-org/llama.cpp (captured)",
)
async def many_in_one(rig: Rig) -> Finding:
    """Send 64 events in one HTTP chunk."""
    events = _answer("chatcmpl-many", [f"{i} " for i in range(64)])
    return await _relayed(rig, [b"".join(events)])


@case("big-event", "framing", "An event of 200 KiB arrives whole.", "WHATWG event streams", severity="should")
async def big_event(rig: Rig) -> Finding:
    """Send one big event, in several reads."""
    whole = b"".join(_answer("chatcmpl-big", ["0123456789abcdef" * 12_800]))
    return await _relayed(rig, [whole[i : i + 30_000] for i in range(0, len(whole), 30_000)])


@case(
    "several-data-lines",
    "framing",
    "The data lines of one event stay together.",
    "WHATWG event streams",
    severity="should",
)
async def several_data_lines(rig: Rig) -> Finding:
    """Split one event's JSON over three data lines."""
    events = _answer("chatcmpl-lines", ["one", "two", "three"])
    events[2] = (
        events[2].replace(b',"choices"', b',\ndata: "choices"').replace(b',"logprobs"', b',\ndata: "logprobs"')
    )
    return await _relayed(rig, events)


@case(
    "comments",
    "framing",
    "An engine's comments never turn into data.",
    "mnfst/llm-gateway#2053",
    "vllm-project/vllm#51034",
)
async def comments(rig: Rig) -> Finding:
    """Put vLLM's and llama-server's keep-alives between events."""
    events = _answer("chatcmpl-comment", ["no ", "comment"])
    pieces = [b": keep-alive\n\n", events[0], b":\n\n", events[1], b": data: no event\n\n", *events[2:]]
    return await _relayed(rig, pieces, as_answer_of=b"".join(events))


_ODD_BASE = b'"object":"chat.completion.chunk","created":1795226063,"model":"conform","choices":'
_ODD = (
    b'data: {"id": "chatcmpl-odd",%b[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    % _ODD_BASE,
    b'data: {"zeta":1.0,"id":"chatcmpl-odd",%b[{"index":0,"delta":{"content":"\\u00e9\\ud83d\\ude00 \xef\xbf\xbd"},'
    b'"finish_reason":null,"token_ids":[1,2]}],"alpha":{"b":1e-7,"a":[ ]},"system_fingerprint":null}\n\n' % _ODD_BASE,
    b'data: {"id":"chatcmpl-odd",%b[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":null}]}\n\n'
    % _ODD_BASE,
)


@case(
    "byte-faithful",
    "framing",
    "Data events arrive byte for byte: spacing, key order, escapes, numbers and unknown fields.",
    "katanemo/plano#980",
    _VLLM,
)
async def byte_faithful(rig: Rig) -> Finding:
    """Send JSON that no serialiser would write the same way."""

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(*_ODD, chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan)
    sent, got = sse.payloads(b"".join(_ODD)), stream_of(answer)
    if sent == got:
        return passed(f"{len(got)} events identical")
    where = difference(b"\n".join(sent), b"\n".join(got))
    if content(sent) == content(got):
        return deviation(f"written anew, {where}")
    return failed(f"content changed, {where}")


def _tool(plan: Plan, call: dict[str, Any]) -> bytes:
    choice = {"index": 0, "delta": {"content": None, "tool_calls": [call]}, "logprobs": None, "finish_reason": None}
    return chunks.chunk(plan.id, [choice])


@case(
    "tool-calls",
    "framing",
    "Tool-call deltas arrive as the engine cut them and when it sent them, also with include_usage.",
    "BerriAI/litellm#38926",
    "BerriAI/litellm#26102",
)
async def tool_calls(rig: Rig) -> Finding:
    """Stream the arguments of two calls in pieces; the engine waits until the client has the first."""
    pieces = ['{"ci', 'ty": "', "Kø", 'ben"', ', "n": 1.0', "}"]
    seen = asyncio.Event()
    waited: list[bool] = []

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id))
        for index in range(2):
            head = {"id": f"call-{index}", "type": "function", "index": index, "function": {"name": f"look_{index}"}}
            await x.send(_tool(plan, head))
            for piece in pieces:
                await x.send(_tool(plan, {"index": index, "function": {"arguments": piece}}))
                if not waited:
                    try:
                        await asyncio.wait_for(seen.wait(), rig.soon_s)
                        waited.append(True)
                    except TimeoutError:
                        waited.append(False)
        await x.send(chunks.finish(plan.id, reason="tool_calls"))
        if x.usage_asked:
            await x.send(chunks.usage(plan.id))
        await x.send(chunks.DONE)
        await x.end()

    async with (
        rig.plan(script) as plan,
        rig.asking(plan, stream_options={"include_usage": True}, tools=_TOOLS) as channel,
    ):
        answer = await channel.head()
        while b"call-0" not in answer.body or b'{\\"ci' not in answer.body:
            if not await channel.more(answer):
                break
        seen.set()
        await channel.rest(answer)
    got = stream_of(answer)
    tools = content(got).get(0, {}).get("tools", {})
    whole = "".join(pieces)
    wanted = {index: {"id": f"call-{index}", "name": f"look_{index}", "arguments": whole} for index in range(2)}
    if tools != wanted:
        raise UnmetError(f"tool calls changed: {json.dumps(tools)[:160]}")
    deltas = sum(b'"arguments"' in data for data in got)
    if waited == [False] or deltas < 2 * len(pieces):
        return failed(f"{2 * len(pieces)} argument deltas arrived as {deltas}, the first at once: {waited == [True]}")
    return passed(f"{deltas} argument deltas, the first before the second was sent")


_TOOLS = [
    {"type": "function", "function": {"name": f"look_{index}", "parameters": {"type": "object", "properties": {}}}}
    for index in range(2)
]


@case("logprobs", "framing", "Logprobs arrive untouched.", _VLLM, severity="should")
async def logprobs(rig: Rig) -> Finding:
    """Stream tokens with logprobs."""
    told = [
        {"token": token, "logprob": -0.125 * at - 1e-9, "bytes": list(token.encode()), "top_logprobs": []}
        for at, token in enumerate(["Log", " prob", " é"])
    ]

    async def script(x: Exchange) -> None:
        await x.stream()
        await x.send(chunks.role(plan.id))
        for one in told:
            delta = {"content": one["token"]}
            choice = {"index": 0, "delta": delta, "logprobs": {"content": [one]}, "finish_reason": None}
            await x.send(chunks.chunk(plan.id, [choice]))
        await x.send(chunks.finish(plan.id), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan, logprobs=True)
    got = content(stream_of(answer)).get(0, {}).get("logprobs", [])
    slim = [{key: value for key, value in one.items() if key in told[0]} for one in got]
    return passed(f"{len(got)} logprobs intact") if slim == told else failed(f"got {json.dumps(got)[:160]}")


@case("n-choices", "framing", "With n = 2 both choices arrive under their own index.", _VLLM)
async def n_choices(rig: Rig) -> Finding:
    """Interleave two choices."""

    async def script(x: Exchange) -> None:
        await x.stream()
        for index in (1, 0):
            await x.send(chunks.role(plan.id, index))
        for at in range(4):
            for index in (0, 1):
                await x.send(chunks.delta(plan.id, f"{index}.{at} ", index))
        await x.send(chunks.finish(plan.id, 1, "length"), chunks.finish(plan.id, 0), chunks.DONE)
        await x.end()

    async with rig.plan(script) as plan:
        answer = await rig.ask(plan, n=2)
    kept_ = content(stream_of(answer))
    texts = {index: one["text"] for index, one in kept_.items()}
    ends = {index: one["finish"] for index, one in kept_.items()}
    if texts != {0: "0.0 0.1 0.2 0.3 ", 1: "1.0 1.1 1.2 1.3 "} or ends != {0: "stop", 1: "length"}:
        return failed(f"texts {texts}, finish_reasons {ends}")
    return passed("two choices, two finish_reasons")
