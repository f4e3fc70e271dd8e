"""llama-server: its captured bytes through the edge, the simulator against them, and what it does its own way."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit.wire.backend import CAPABILITIES
from tests.support.exchange import Exchange, ask, chat
from tests.support.inprocess import MODEL, ScriptedExchange, running_edge
from tests.support.processes import until
from tests.support.raw import Raw, post
from tests.support.rig import Rig, rig
from tests.unit.simulator.raw import Answer, read_answer, running, send

VECTORS = Path(__file__).parent.parent / "vectors" / "llamacpp"
STREAMS = [*sorted(path.stem for path in VECTORS.glob("a*.resp")), "b07_completions_stream_usage", "f01_ping_queued"]
LLAMA = CAPABILITIES["openai"]
_NAME = re.compile(rb"(?m)^[\w-]+:")


def body_of(name: str) -> bytes:
    return (VECTORS / f"{name}.resp").read_bytes()


async def load(name: str) -> Answer:
    reader = asyncio.StreamReader()
    head, mark, body = body_of(name).partition(b"\r\n\r\n")
    reader.feed_data(_NAME.sub(lambda match: match[0].lower(), head) + mark + body)
    reader.feed_eof()
    return await read_answer(reader, method="HEAD" if "_head_" in name else "GET")


def asked(name: str) -> dict[str, Any]:
    """The captured request for the model of the edge under test."""
    body: dict[str, Any] = json.loads((VECTORS / f"{name}.req").read_bytes().partition(b"\r\n\r\n")[2])
    return {**body, "model": MODEL}


def replay(name: str) -> Any:
    async def script(exchange: ScriptedExchange) -> None:
        await exchange.raw(body_of(name))
        if "chunked" not in body_of(name).decode("utf-8", "replace")[:400].lower():
            return
        if not body_of(name).endswith(b"0\r\n\r\n"):
            exchange.cut()

    return script


# Through the edge.


@pytest.mark.anyio
@pytest.mark.parametrize("name", STREAMS)
async def test_captured_streams_reach_the_client_byte_for_byte(name: str) -> None:
    captured = await load(name)
    path = "/v1/completions" if name.startswith("b") else "/v1/chat/completions"
    async with running_edge(replay(name), capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(asked(name), path=path))
        assert answer.status == 200
        # Its pings are comments, and hop-by-hop.
        assert answer.body == captured.body.replace(b":\n\n", b"")
        await edge.quiet()


@pytest.mark.anyio
async def test_a_stopped_server_leaves_a_broken_stream_and_no_finish_reason() -> None:
    async with running_edge(replay("h_term_api_stream"), capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post({"model": MODEL, "stream": True}))
        *_, error, done = answer.body.split(b"\n\n")[:-1]
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "stream_broken"
        assert done == b"data: [DONE]"
        assert not re.search(rb'"finish_reason":"', answer.body)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["b01_nonstream", "b05_nonstream_prefill", "b06_completions", "c01_unknown_model"])
async def test_captured_answers_reach_the_client_byte_for_byte(name: str) -> None:
    path = "/v1/completions" if name.startswith("b06") else "/v1/chat/completions"
    async with running_edge(replay(name), capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(asked(name), path=path))
        assert (answer.status, answer.body) == (200, (await load(name)).body)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["c02_missing_messages", "c04_max_tokens_neg", "c04d_max_tokens_str"])
async def test_a_verdict_on_the_request_is_passed_on(name: str) -> None:
    async with running_edge(replay(name), capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(asked(name)))
        assert (answer.status, answer.body) == (400, (await load(name)).body)


@pytest.mark.anyio
async def test_a_picture_that_it_cannot_see_looks_like_a_failure_of_its_own() -> None:
    async with running_edge(replay("c09_image_part"), capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post(asked("c09_image_part")))
        assert (answer.status, answer.error["code"]) == (502, "backend_error")
        assert "image input is not supported" in answer.error["message"]


@pytest.mark.anyio
async def test_a_server_that_loads_is_passed_over_and_tells_to_come_back() -> None:
    loading = re.search(rb"b'(HTTP/1.1 503.*?)'", (VECTORS / "startup.txt").read_bytes())
    assert loading is not None
    bytes_ = loading[1].decode().encode().decode("unicode_escape").encode()

    async def script(exchange: ScriptedExchange) -> None:
        await exchange.raw(bytes_)

    async with running_edge(script, replay("b01_nonstream"), capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        assert (await client.ask(post({"model": MODEL}))).headers["x-headrace-backend"] == "engine-1"
    async with running_edge(script, capabilities=LLAMA) as edge, Raw.to(edge.url) as client:
        answer = await client.ask(post({"model": MODEL}))
        assert (answer.status, answer.error["code"]) == (429, "saturated")
        assert "Loading model" in answer.error["message"]
        assert answer.headers["x-should-retry"] == "true"


# The simulator against the captures.


def shape(value: Any) -> Any:
    """Keys in their order, and the type of every value; of lists the first item."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def kinds(answer: Answer) -> list[Any]:
    """The shapes of a stream's events, repetitions left out."""
    found: list[Any] = []
    for event in answer.data:
        if shape(event) not in found:
            found.append(shape(event))
    return found


SAME_STREAM = ["a01_stream", "a02_stream_usage", "a07_stream_max_tokens1", "b07_completions_stream_usage"]
SAME_ANSWER = [
    *("b01_nonstream", "b05_nonstream_prefill", "b06_completions", "c01_unknown_model", "c02_missing_messages"),
    *(
        "c02b_messages_wrong_type",
        "c02c_empty_messages",
        "c02d_bad_role",
        "c04_max_tokens_neg",
        "c04b_max_tokens_0",
        "c04d_max_tokens_str",
        "g03_health",
    ),
    *("c03d_text_plain", "g03b_v1_health", "g04_version", "g09_notfound", "g10_apitags", "g13_get_chat"),
    *("g07_slots", "i01_embeddings"),
]


def llama(**settings: Any) -> Any:
    more = {"max_model_len": 4096, "max_num_seqs": 2, "serves": "generate", **settings}
    return running(engine="llama-server", models=("tiny",), **more)


@pytest.mark.anyio
@pytest.mark.parametrize("name", SAME_STREAM)
async def test_the_simulator_streams_as_the_real_one(name: str) -> None:
    captured = await load(name)
    async with llama() as one:
        ours = await send(one, (VECTORS / f"{name}.req").read_bytes())
    assert ours.header("content-type") == captured.header("content-type")
    assert kinds(ours) == kinds(captured)
    assert ours.events[-1] == captured.events[-1] == "data: [DONE]"
    # The bare role event travels with the first token.
    assert ours.chunks[0].count(b"\n\n") == captured.chunks[0].count(b"\n\n")


@pytest.mark.anyio
@pytest.mark.parametrize("name", SAME_ANSWER)
async def test_the_simulator_answers_as_the_real_one(name: str) -> None:
    captured = await load(name)
    async with llama() as one:
        ours = await send(one, (VECTORS / f"{name}.req").read_bytes())
    assert ours.code == captured.code
    assert shape(ours.json) == shape(json.loads(body_of(name).partition(b"\r\n\r\n")[2]))
    if "error" in ours.json:
        assert ours.json == json.loads(body_of(name).partition(b"\r\n\r\n")[2])


@pytest.mark.anyio
async def test_the_simulator_loads_first() -> None:
    async with llama(load_ms=60_000.0) as one:
        loading = await send(one, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        told = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
        assert (loading.code, loading.json) == (503, told)
        assert (await send(one, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")).code == 200
    async with llama() as one:
        assert (await send(one, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).json == {"status": "ok"}


# The whole gateway with it.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    simulators = {"alpha": {"engine": "llama-server"}}
    with rig(tmp_path_factory.mktemp("llama"), simulators, backends={"engine": "openai"}) as ours:
        yield ours


def test_a_stream_and_its_prefill(site: Rig) -> None:
    messages = [{"role": "user", "content": "Say"}, {"role": "assistant", "content": "Once"}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 5, "seed": 3}
    whole = ask(site.url, "/v1/chat/completions", body).json["choices"][0]["message"]["content"]
    flowing = ask(site.url, "/v1/chat/completions", {**body, "stream": True})
    # Only a whole answer repeats what was prefilled (b05x): why `prefill` is false for it.
    assert whole == "Once" + flowing.text
    assert flowing.done


def test_whole_answers_are_not_cancelled_so_their_slot_stays_taken(site: Rig) -> None:
    before = site.stats()
    with Exchange(site.url) as client:
        client.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=150,itl_ms=10"})
        until(lambda: site.stats()["running"] == 1, what="it runs")
    held = site.metric("headrace_attempts_inflight", backend="alpha")
    while site.stats()["running"]:
        assert held == 1
        held = site.metric("headrace_attempts_inflight", backend="alpha")
    site.wait_quiet()
    stats = site.stats()
    assert (stats["finished"] - before["finished"], stats["aborted"]) == (1, before["aborted"])
    assert site.metric("headrace_disconnects_total") >= 1


def test_streams_are_cancelled(site: Rig) -> None:
    with Exchange(site.url) as client:
        client.send("POST", "/v1/chat/completions", chat(stream=True), {"x-sim": "tokens=100000,itl_ms=5"})
        client.head()
    site.wait_quiet()
