"""The simulator against bytes captured from vLLM 0.32, field by field.

Compared: status, header names and their order, content type, chunked framing (one event in one HTTP chunk), the order
of the kinds of events of each choice, JSON keys in their order and the type of every value; and the *values* at the
paths in `EXACT`. Ids, times and texts differ. Whatever else differs stands in `DEVIATIONS` with its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from simulator.server import Simulator
from tests.unit.simulator.raw import (
    Answer,
    chat,
    connected,
    read_answer,
    read_rest,
    request,
    running,
    send,
    until,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "vllm"

#: Keys whose values must be equal, not only of one type.
EXACT = {
    "object", "role", "type", "finish_reason", "model", "owned_by", "status", "detail", "message", "param", "code",
    "error", "level", "tags", "is_sleeping", "version", "max_model_len", "success",
}  # fmt: skip

#: name -> (what is left out of the comparison, why)
DEVIATIONS: dict[str, tuple[str, str]] = {
    "*": ("value of the server header", "the simulator does not pass itself off as uvicorn"),
    "a09_stream_tool_named": ("choices.delta.tool_calls.function.arguments", "random weights wrote a number"),
    "a13_stream_json_schema": (
        "choices.stop_reason", "it ended with a stop token of its generation config, ours with the model's own end"
    ),
    "a21_stream_tool_named_strict": (
        "choices.finish_reason", "random weights filled 120 tokens with blanks; our document ends itself"
    ),
    "a21_stream_tool_required_strict": ("choices.finish_reason", "as a21_stream_tool_named_strict"),
    "b07_completions_stream_usage": (
        "events with an empty text", "half a character is a token there; ours always have whole characters"
    ),
    "b09_completions_token_ids_echo_logprobs": (
        "keys of top_logprobs and prompt_logprobs", "they are tokens and token ids"
    ),
    "c11_context_exact_max_tokens_plus_prompt": ("choices.stop_reason", "as a13_stream_json_schema"),
    "c08_bad_schema": ("the clock inside the message", "it is the moment of the capture"),
    "c08b_bad_schema_stream": ("the clock inside the message", "it is the moment of the capture"),
    "g02_model_one": ("nothing", "listed: vLLM has no /v1/models/{id}, so neither have we"),
}  # fmt: skip
#: Key paths whose values are not compared, and whose dict keys are data.
SKIPPED = {name: what for name, (what, _) in DEVIATIONS.items() if what.startswith("choices.")}
DATA_KEYED = ("top_logprobs", "prompt_logprobs")

#: Requests that must be said differently, because our text is not their noise.
EDITS = {
    "a06_stream_stop": (b'"stop": ["in "]', b'"stop": [". "] '),
    "b02_nonstream_stop": (b'"stop": ["in "]', b'"stop": [". "] '),
}

SERVERS: dict[str, dict[str, Any]] = {
    "default": {"serves": "generate", "dev_mode": False, "max_model_len": 4096},
    "embed": {"serves": "embed", "dev_mode": False, "max_model_len": 4096},
    "dev": {"serves": "generate", "max_model_len": 4096},
    "keyed": {
        "serves": "generate", "api_key": "sk-test", "force_usage": True, "per_request_metrics": True,
        "max_num_queued_tokens": 100, "max_model_len": 4096,
    },
}  # fmt: skip

#: Captures that need a scene of their own: they have their own test below.
SCENES = {
    "e01_queue_overflow", "e02_queue_overflow_stream", "e03_queue_overflow_completions", "e04_models_while_full",
    "e05_health_while_full", "e07_n3_with_limit2_idle", "e10_queued_tokens_overflow", "f01_keepalive_queued",
    "g21_load_busy", "g22_health_busy", "h_drain_new_request", "h_term_api_nonstream", "h_term_api_stream",
    "j03_sleep_level0", "j04_is_sleeping", "j05_health_sleeping", "j05b_models_sleeping",
    "j08_request_sent_while_sleeping", "j11_sleep_level0_abort_running", "j12_stream_aborted_by_sleep",
    "j14_sleep_level1", "j15_is_sleeping",
}  # fmt: skip


def server_of(name: str) -> str:
    if name.startswith("i"):
        return "embed"
    if name.startswith("j"):
        return "dev"
    if name.startswith("k") or name in ("e10_queued_tokens_overflow", "e11_big_prompt_on_idle_over_limit"):
        return "keyed"
    return "default"


REPLAYED = sorted(path.stem for path in VECTORS.glob("*.req") if path.stem not in SCENES)


async def load(name: str) -> Answer:
    reader = asyncio.StreamReader()
    reader.feed_data((VECTORS / f"{name}.resp").read_bytes())
    reader.feed_eof()
    method = "HEAD" if "_head_" in name else "GET"
    return await read_answer(reader, method=method)


def sent(name: str) -> bytes:
    raw = (VECTORS / f"{name}.req").read_bytes()
    if name in EDITS:
        old, new = EDITS[name]
        assert old in raw
        raw = raw.replace(old, new)
    return raw


@pytest.fixture(params=["default", "embed", "dev", "keyed"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def simulator(kind: str, anyio_backend: object) -> AsyncIterator[Simulator]:
    async with running(models=("tiny",), **SERVERS[kind]) as one:
        yield one


@pytest.mark.anyio
async def test_every_replayed_capture_has_our_shape(kind: str, simulator: Simulator) -> None:
    names = [name for name in REPLAYED if server_of(name) == kind]
    assert names
    answers = await asyncio.gather(*(send(simulator, sent(name)) for name in names))
    for name, ours in zip(names, answers, strict=True):
        compare(name, await load(name), ours)


def test_no_capture_is_forgotten() -> None:
    known = {path.stem for path in VECTORS.glob("*.req")}
    assert known >= SCENES
    assert known >= DEVIATIONS.keys() - {"*"}
    assert known >= EDITS.keys()


# How two answers are compared.


def compare(name: str, captured: Answer, ours: Answer) -> None:
    assert ours.status == captured.status, name
    assert [key for key, _ in ours.headers] == [key for key, _ in captured.headers], name
    for header in ("content-type", "vary", "allow", "transfer-encoding"):
        assert ours.header(header) == captured.header(header), (name, header)
    assert ours.end == captured.end, name
    skipped = SKIPPED.get(name, "")
    if captured.header("transfer-encoding") != "chunked":
        if captured.body:
            same(name, captured.json, ours.json, skipped)
        else:
            assert ours.body == b"", name
        return
    for answer in (captured, ours):
        assert all(chunk.endswith(b"\n\n") and chunk.count(b"\n\n") == 1 for chunk in answer.chunks), name
    assert ours.events[-1] == captured.events[-1] == "data: [DONE]", name
    theirs, mine = kinds(captured), kinds(ours)
    assert mine.keys() == theirs.keys(), name
    for choice, listed in theirs.items():
        assert [kind for kind, _ in mine[choice]] == [kind for kind, _ in listed], (name, choice)
        for (_, a), (_, b) in zip(listed, mine[choice], strict=True):
            same(name, a, b, skipped)


def kinds(answer: Answer) -> dict[int | str, list[tuple[str, Any]]]:
    """The runs of equal kinds of events, by choice; with one example of each."""
    by_choice: dict[int | str, list[tuple[str, Any]]] = {}
    for event in answer.data:
        choices = event.get("choices")
        key: int | str = choices[0]["index"] if choices else "whole"
        by_choice.setdefault(key, []).append((kind_of(event), event))
    return {
        key: [next(group) for _, group in groupby(listed, lambda one: one[0])] for key, listed in by_choice.items()
    }


def kind_of(event: Any) -> str:
    if "error" in event:
        return "error"
    if not event["choices"]:
        return "usage"
    choice = event["choices"][0]
    delta = choice.get("delta", {"content": ""})
    call = (delta.get("tool_calls") or [{}])[0]
    what = (
        "role" if "role" in delta else "name" if "id" in call else "arguments" if call else "+".join(delta) or "empty"
    )
    ids = "" if "token_ids" in choice or "role" in delta else " without ids"
    return f"{what}{ids}{' finish' if choice['finish_reason'] else ''}"


def same(name: str, captured: Any, ours: Any, skipped: str, path: str = "") -> None:
    where = (name, path, captured, ours)
    if skipped and path == skipped:
        return
    if isinstance(captured, float) and isinstance(ours, int | float):
        return
    assert type(captured) is type(ours), where
    key = path.rsplit(".", 1)[-1]
    if isinstance(captured, dict) and key in DATA_KEYED:
        assert bool(captured) == bool(ours), where
        for a, b in zip(captured.values(), ours.values(), strict=False):
            same(name, a, b, skipped, f"{path}.*")
    elif isinstance(captured, dict):
        assert list(captured) == list(ours), where
        for field, value in captured.items():
            same(name, value, ours[field], skipped, f"{path}.{field}".lstrip("."))
    elif isinstance(captured, list):
        assert bool(captured) == bool(ours), where
        for a, b in zip(captured, ours, strict=False):
            same(name, a, b, skipped, path)
    elif key in EXACT:
        assert without_clock(captured) == without_clock(ours), where


def without_clock(value: Any) -> Any:
    return re.sub(r"\[\d\d:\d\d:\d\d\]", "[clock]", value) if isinstance(value, str) else value


# Scenes: captures of a state that must be made first.


@pytest.mark.anyio
async def test_a_full_queue_refuses_with_503_and_still_answers_queries() -> None:
    limits: dict[str, Any] = {"max_num_seqs": 1, "max_num_queued_reqs": 2, "request_id_headers": True, "itl_ms": 20}
    async with running(models=("tiny",), max_model_len=4096, serves="generate", **limits) as simulator:
        compare("e07", await load("e07_n3_with_limit2_idle"), await send(simulator, sent("e07_n3_with_limit2_idle")))
        async with connected(simulator) as (_, one), connected(simulator) as (_, two):
            one.write(sent("f01_keepalive_queued").replace(b'"max_tokens": 2', b'"max_tokens": 9'))
            two.write(sent("f01_keepalive_queued").replace(b'"max_tokens": 2', b'"max_tokens": 9'))
            await until(lambda: simulator.stats.waiting == 1, "one runs, one waits")
            for name in ("e01_queue_overflow", "e02_queue_overflow_stream", "e03_queue_overflow_completions"):
                ours = await send(simulator, sent(name))
                compare(name, await load(name), ours)
                assert ours.header("retry-after") is None
            for name in ("e04_models_while_full", "e05_health_while_full"):
                compare(name, await load(name), await send(simulator, sent(name)))
        await until(lambda: simulator.stats.open == 0, "both aborted")


@pytest.mark.anyio
async def test_keep_alives_come_while_queueing() -> None:
    settings: dict[str, Any] = {"max_num_seqs": 1, "sse_keep_alive_ms": 15, "request_id_headers": True}
    async with (
        running(models=("tiny",), max_model_len=4096, **settings) as simulator,
        connected(simulator) as (_, long),
        connected(simulator) as (reader, writer),
    ):
        long.write(chat(ignore_eos=True))
        await until(lambda: simulator.stats.running == 1, "the long one runs")
        writer.write(sent("f01_keepalive_queued"))
        ours = await read_answer(reader, head_only=True)
        for _ in range(3):
            assert await reader.readexactly(19) == b"e\r\n: keep-alive\n\n\r\n"
        long.close()
        compare("f01_keepalive_queued", await load("f01_keepalive_queued"), await read_rest(reader, ours))


@pytest.mark.anyio
async def test_load_and_health_while_busy() -> None:
    async with running(models=("tiny",), max_num_seqs=8, itl_ms=20, dev_mode=False) as simulator:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(12):
                _, writer = await stack.enter_async_context(connected(simulator))
                writer.write(chat(ignore_eos=True))
            await until(lambda: (simulator.stats.running, simulator.stats.waiting) == (8, 4), "8 run, 4 wait")
            ours = await send(simulator, sent("g21_load_busy"))
            compare("g21", await load("g21_load_busy"), ours)
            assert ours.json == {"server_load": 12}
            compare("g22", await load("g22_health_busy"), await send(simulator, sent("g22_health_busy")))
        # behaviour.txt: gauges are back at 0 in 13-65 ms.
        await until(lambda: simulator.stats.open == 0, "12 disconnects")


@pytest.mark.anyio
async def test_queued_tokens_overflow() -> None:
    name = "e10_queued_tokens_overflow"
    async with (
        running(models=("tiny",), max_num_seqs=1, itl_ms=20, **SERVERS["keyed"]) as simulator,
        connected(simulator) as (_, one),
        connected(simulator) as (_, two),
    ):
        one.write(sent(name))
        two.write(sent(name))
        await until(lambda: simulator.stats.waiting == 1, "one waits")
        compare(name, await load(name), await send(simulator, sent(name)))


@pytest.mark.anyio
async def test_sleep_and_wake() -> None:
    async with running(models=("tiny",), max_model_len=4096, serves="generate", itl_ms=5) as simulator:
        for name in ("j03_sleep_level0", "j04_is_sleeping", "j05_health_sleeping", "j05b_models_sleeping"):
            compare(name, await load(name), await send(simulator, sent(name)))
        async with connected(simulator) as (reader, writer):
            writer.write(sent("j08_request_sent_while_sleeping"))
            ours = await read_answer(reader, head_only=True)  # 200 and headers leave all the same
            assert simulator.stats.waiting == 1
            assert simulator.stats.running == 0
            await send(simulator, sent("j07_wake_up"))
            name = "j08_request_sent_while_sleeping"
            compare(name, await load(name), await read_rest(reader, ours))
        async with connected(simulator) as (reader, writer):
            writer.write(sent("j12_stream_aborted_by_sleep"))
            await until(lambda: simulator.stats.tokens > 8, "some tokens")
            name = "j11_sleep_level0_abort_running"
            compare(name, await load(name), await send(simulator, sent(name)))
            ours = await read_answer(reader)
            assert ours.end == "complete"
            tail = (VECTORS / "j12_stream_aborted_by_sleep.tail").read_bytes().decode()
            last = json.loads(re.findall(r"data: (\{.*\})\n\n", tail)[-1])
            same("j12", last, ours.data[-1], "")
            assert ours.done
            assert ours.finish_reason == "abort"
        for name in ("j14_sleep_level1", "j15_is_sleeping"):
            compare(name, await load(name), await send(simulator, sent(name)))


@pytest.mark.anyio
async def test_sigterm_cut_ends_streams_with_an_error_frame_and_done() -> None:
    async with (
        running(models=("tiny",), max_model_len=4096, itl_ms=5) as simulator,
        connected(simulator) as (reader, writer),
        connected(simulator) as (plain_reader, plain_writer),
    ):
        writer.write(sent("h_term_api_stream"))
        plain_writer.write(sent("h_term_api_nonstream"))
        await until(lambda: simulator.stats.running == 2 and simulator.stats.tokens > 8, "both run")
        ending = asyncio.ensure_future(simulator.shut_down())
        ours = await read_answer(reader)
        assert ours.end == "complete"
        tail = (VECTORS / "h_term_api_stream.tail").read_bytes().decode()
        assert ours.events[-2:] == [event.strip() for event in re.findall(r"data: .*\n\n", tail)[-2:]]
        compare("h_term", await load("h_term_api_nonstream"), await read_answer(plain_reader))
        await ending


@pytest.mark.anyio
async def test_draining_finishes_what_runs_and_refuses_what_is_new() -> None:
    async with (
        running(models=("tiny",), on_sigterm="drain", itl_ms=5, max_model_len=4096) as simulator,
        connected(simulator) as (reader, writer),
    ):
        writer.write(sent("a01_stream"))
        await until(lambda: simulator.stats.tokens > 0, "it runs")
        ending = asyncio.ensure_future(simulator.shut_down())
        await until(lambda: simulator.engine.draining, "it drains")
        compare("h_drain", await load("h_drain_new_request"), await send(simulator, sent("h_drain_new_request")))
        assert (await send(simulator, sent("g03_health"))).code == 200
        compare("a01", await load("a01_stream"), await read_answer(reader))
        await ending


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_fills_the_context_is_refused(stream: bool) -> None:
    text = "word " * 5000
    messages = [{"role": "user", "content": text}]
    captured = await load("c05_too_long")
    async with running(models=("tiny",), max_model_len=4096, serves="generate") as simulator:
        compare("c05_too_long", captured, await send(simulator, chat(messages=messages, stream=stream)))
        plain = request("/v1/completions", {"prompt": text, "stream": stream})
        compare("c05c_too_long_completions", captured, await send(simulator, plain))


@pytest.mark.anyio
async def test_metrics_have_the_captured_families_labels_and_buckets() -> None:
    captured = (VECTORS / "g20_metrics_busy.series").read_text().splitlines()[1:]
    #: Why these are not there: they count what the simulator has no counterpart of.
    absent = re.compile(r"(TYPE )?vllm:tool_call_parser_invocations")
    theirs = [line for line in captured if not absent.match(line)]
    async with running(models=("tiny",), max_model_len=4096) as simulator:
        page = (await send(simulator, b"GET /metrics HTTP/1.1\r\n\r\n")).body.decode().splitlines()
    ours = [
        line[2:] if line.startswith("# TYPE") else line.rsplit(" ", 1)[0] for line in page if "# HELP" not in line
    ]
    # The cache's description has the labels of a real cache there, of a simulated one here.
    theirs, ours = (
        [line.split("{")[0] if "cache_config_info" in line else line for line in one] for one in (theirs, ours)
    )
    assert ours == theirs
