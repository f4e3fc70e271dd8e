"""The simulated Ollama loads, queues and unloads as the real one does (facts: gpu-backends §1.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from simulator.server import Simulator
from tests.unit.simulator.raw import Answer, connected, read_answer, request, running, send, until

pytestmark = pytest.mark.anyio
MODELS = ("one:latest", "two:latest", "three:latest")
SIZE = 1000


def ollama(**settings: Any) -> contextlib.AbstractAsyncContextManager[Simulator]:
    return running(engine="ollama", models=MODELS, weights_bytes=SIZE - 1, kv_bytes=1, **settings)


def generate(model: str = "one", sim: str = "tokens=3", **members: Any) -> bytes:
    body = {"model": model, "prompt": "Once", "stream": False, **members}
    return request("/api/generate", body, headers={"x-sim": sim})


async def get(simulator: Simulator, path: str) -> Any:
    return (await send(simulator, request(path))).json


async def loaded(simulator: Simulator) -> dict[str, Any]:
    return {row["name"]: row for row in (await get(simulator, "/api/ps"))["models"]}


async def held(simulator: Simulator) -> int:
    found: int = (await get(simulator, "/sim/gpu"))["held_bytes"]
    return found


async def unload(simulator: Simulator, model: str = "one") -> Answer:
    return await send(simulator, request("/api/generate", {"model": model, "keep_alive": 0}))


@contextlib.asynccontextmanager
async def busy(simulator: Simulator, model: str = "one") -> AsyncIterator[None]:
    """A request that runs until the block ends."""
    async with connected(simulator) as (reader, writer):
        writer.write(generate(model, "tokens=100000", stream=True))
        await read_answer(reader, head_only=True)
        await reader.readuntil(b"\n")
        yield


async def test_its_pages() -> None:
    async with ollama() as one:
        assert (await send(one, request("/"))).body == b"Ollama is running"
        assert (await get(one, "/api/version"))["version"]
        assert [row["name"] for row in (await get(one, "/api/tags"))["models"]] == list(MODELS)
        assert {row["owned_by"] for row in (await get(one, "/v1/models"))["data"]} == {"library"}
        missing = await send(one, generate("nobody"))
        assert (missing.code, missing.json) == (404, {"error": "model 'nobody' not found"})
        assert (await send(one, request("/api/generate", {}))).code == 400


async def test_a_model_is_loaded_by_the_first_who_asks_and_shows_its_memory() -> None:
    async with ollama() as one:
        assert (await loaded(one), await held(one)) == ({}, 0)
        answer = (await send(one, generate())).json
        assert (answer["done"], answer["done_reason"], answer["eval_count"]) == (True, "stop", 3)
        found = await loaded(one)
        assert found["one:latest"]["size_vram"] == SIZE
        assert found["one:latest"]["context_length"] == 4096
        assert await held(one) == SIZE


async def test_an_empty_request_loads_and_unloads() -> None:
    async with ollama() as one:
        load = await send(one, request("/api/chat", {"model": "one", "messages": []}))
        assert load.json["done_reason"] == "load"
        assert await loaded(one)
        assert (await unload(one)).json["done_reason"] == "unload"
        assert (await loaded(one), await held(one)) == ({}, 0)


async def test_the_answer_to_an_unload_comes_before_the_memory_is_free() -> None:
    async with ollama(release_ms=200.0) as one:
        await send(one, generate())
        await unload(one)
        assert await loaded(one) == {}
        assert await held(one) == SIZE
        await until(lambda: one.engine.vram.held_bytes == 0, "the memory is back")


async def test_memory_may_never_come_back() -> None:
    async with ollama() as one:
        await send(one, generate())
        assert (await send(one, request("/sim/gpu", {"leaks": True}))).code == 200
        await unload(one)
        assert (await loaded(one), await held(one)) == ({}, SIZE)


async def test_a_busy_model_keeps_its_memory_until_its_request_ends() -> None:
    async with ollama() as one:
        async with busy(one):
            assert (await unload(one)).json["done_reason"] == "unload"
            assert list(await loaded(one)) == ["one:latest"]
            assert await held(one) == SIZE
        await until(lambda: one.engine.vram.held_bytes == 0, "the model goes when its request is over")


async def test_keep_alive_ends() -> None:
    async with ollama() as one:
        await send(one, generate(keep_alive="50ms"))
        await until(lambda: one.engine.vram.held_bytes == 0, "it expires")
        await send(one, generate(keep_alive=-1))
        assert (await loaded(one))["one:latest"]["expires_at"] > "2100"


async def test_the_queue_of_loads_is_bounded_and_a_loaded_model_needs_none() -> None:
    async with ollama(load_ms=60_000.0, max_pending_loads=1) as one, connected(one) as (_, writer):
        writer.write(generate("two"))
        await until(lambda: one.stats.connections == 1, "it waits for its load")
        full = await send(one, generate("three"))
        assert full.code == 503
        assert full.json["error"] == "server busy, please try again.  maximum pending requests exceeded"


async def test_too_many_models_evict_an_idle_one_and_wait_for_a_busy_one() -> None:
    async with ollama(max_loaded_models=1) as one:
        await send(one, generate("one"))
        await send(one, generate("two"))
        assert list(await loaded(one)) == ["two:latest"]
        async with connected(one) as (reader, writer):
            async with busy(one, "two"):
                writer.write(generate("three"))
                assert list(await loaded(one)) == ["two:latest"]
            assert (await read_answer(reader)).code == 200
        assert list(await loaded(one)) == ["three:latest"]


async def test_a_waiting_client_that_leaves_is_forgotten() -> None:
    async with ollama(load_ms=20.0) as one:
        async with connected(one) as (_, writer):
            writer.write(generate("two"))
            await until(lambda: one.stats.connections == 1, "it is connected")
        await until(lambda: one.stats.connections == 0, "it has left")
        await asyncio.wait_for(send(one, generate("one")), 10)
        assert one.stats.started == 1


async def test_sleep_answers_200_and_frees_nothing_where_it_is_told_to() -> None:
    async with running(weights_bytes=SIZE, kv_bytes=SIZE, residue_bytes=7) as vllm:
        assert await held(vllm) == 2 * SIZE + 7
        await send(vllm, request("/sleep?level=1", b""))
        assert await held(vllm) == 7
        await send(vllm, request("/wake_up", b""))
        assert await held(vllm) == 2 * SIZE + 7
        await send(vllm, request("/sim/gpu", {"leaks": True}))
        assert (await send(vllm, request("/sleep?level=1", b""))).code == 200
        assert await held(vllm) == 2 * SIZE + 7
