"""Adapters against their engines' stand-ins, and the traps of the facts page: an engine's word proves nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, ModelState, Room, Status
from core_gpu.arbiter.adapters.inference import InferenceAdapter
from core_gpu.arbiter.adapters.ollama import OllamaAdapter
from core_gpu.arbiter.adapters.plain import PlainAdapter
from core_gpu.arbiter.adapters.tfserving import TfServingAdapter
from core_gpu.arbiter.adapters.vllm import VllmAdapter, metric
from simulator.faults import parse_fault
from simulator.server import Simulator
from streamkit.flow.clock import ManualClock
from streamkit.ops.http_client import HttpClient
from streamkit.wire.pb import inference_pb2 as pb
from tests.support import inference
from tests.support.timing import FACTOR
from tests.unit.simulator.raw import connected, read_answer, request, running, send

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
WITHIN_S = 5.0 * FACTOR


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """One loop only: gRPC keeps a poller of its own for each process."""
    return request.param


def held_mb(simulator: Simulator) -> int:
    return simulator.engine.vram.held_bytes // MIB


@contextlib.asynccontextmanager
async def vllm(**settings: Any) -> AsyncIterator[tuple[Simulator, VllmAdapter]]:
    sizes = {"weights_bytes": 900 * MIB, "kv_bytes": 90 * MIB, "residue_bytes": 10 * MIB}
    async with running(**{**sizes, **settings}) as one, HttpClient() as http:
        yield one, VllmAdapter(http, one.url, ("sim-chat",), lambda: held_mb(one))


@contextlib.asynccontextmanager
async def ollama(**settings: Any) -> AsyncIterator[tuple[Simulator, OllamaAdapter]]:
    models = ("one:latest", "two:latest")
    sizes = {"weights_bytes": 300 * MIB, "kv_bytes": 100 * MIB}
    async with running(engine="ollama", models=models, **sizes, **settings) as one, HttpClient() as http:
        yield one, OllamaAdapter(http, one.url, lambda: held_mb(one))


@contextlib.asynccontextmanager
async def working(simulator: Simulator, path: str = "/v1/chat/completions", **body: Any) -> AsyncIterator[None]:
    """A request that runs until the block ends."""
    sim = {"x-sim": "tokens=100000"}
    told = body or {"model": "sim-chat", "stream": True, "messages": [{"role": "user", "content": "Once"}]}
    async with connected(simulator) as (reader, writer):
        writer.write(request(path, told, headers=sim))
        await read_answer(reader, head_only=True)
        await reader.readuntil(b"\n")
        yield


async def test_vllm_sleeps_and_wakes_and_the_memory_says_so() -> None:
    async with vllm(release_ms=30) as (one, adapter):
        assert (await adapter.status()).models == {"sim-chat": ModelState.RESIDENT}
        idle = await adapter.busy()
        assert idle == Busy(running=0, waiting=0, prefix_queries=0, prefix_hits=0, cache_usage=0)
        before = held_mb(one)
        room = await adapter.make_room(500)
        assert room.asked == ("sim-chat",)
        assert await adapter.confirm_released(500, before_mb=before, within_s=WITHIN_S) == 990
        status = await adapter.status()
        assert (status.alive, status.models) == (True, {"sim-chat": ModelState.COLD}), "/health is 200 in its sleep"
        await adapter.load("sim-chat", within_s=WITHIN_S)
        assert held_mb(one) == before
        with pytest.raises(AdapterError, match="none of its models"):
            await adapter.load("other", within_s=WITHIN_S)


async def test_a_sleep_that_answers_200_and_frees_nothing_is_not_believed() -> None:
    async with vllm() as (one, adapter):
        await send(one, request("/sim/gpu", {"leaks": True}))
        assert (await adapter.make_room(500)).asked == ("sim-chat",)
        assert await adapter.confirm_released(500, before_mb=held_mb(one), within_s=0.1) == 0


async def test_vllm_is_not_sent_to_sleep_while_it_works_nor_without_the_mode() -> None:
    async with vllm(itl_ms=20.0) as (one, adapter), working(one):
        busy = await adapter.busy()
        assert busy.running == 1
        assert busy.prefix_queries
        assert 0 < (busy.cache_usage or 0) < 1
        room = await adapter.make_room(500)
        assert room.asked == ()
        assert room.why == "1 requests are in it"
        assert one.engine.sleep_level is None
    async with vllm(dev_mode=False) as (_, adapter):
        assert "sleep mode is off" in (await adapter.make_room(500)).why


async def test_gauges_that_stand_still_beside_work_are_a_stall() -> None:
    async with running(fault="stall-mid") as one, HttpClient() as http, working(one):
        clock = ManualClock()
        adapter = VllmAdapter(http, one.url, ("sim-chat",), lambda: None, clock)

        async def quiet() -> bool:
            before = one.engine.metrics.generation_tokens
            await adapter.busy()
            return one.engine.metrics.generation_tokens == before >= 5

        while not await quiet():  # noqa: ASYNC110  the stand-in tells nobody
            await asyncio.sleep(0.01)
        clock.advance(9)
        assert not (await adapter.busy()).stalled
        clock.advance(2)
        busy = await adapter.busy()
        assert busy.stalled
        assert busy.running == 1
        assert metric("vllm:other 1\n", "vllm:num_requests_running") is None


async def test_ollamas_early_answer_to_an_unload_is_not_the_end_of_it() -> None:
    async with ollama(release_ms=60) as (one, adapter):
        await adapter.load("one:latest", within_s=WITHIN_S)
        await adapter.load("two:latest", within_s=WITHIN_S)
        before = held_mb(one)
        assert before == 800
        room = await adapter.make_room(300)
        assert len(room.asked) == 1, "the fewest models that do"
        assert held_mb(one) == before, "the answer came first"
        assert await adapter.confirm_released(300, before_mb=before, within_s=WITHIN_S) == 400
        (left,) = [name for name, state in (await adapter.status()).models.items() if state is ModelState.RESIDENT]
        assert left not in room.asked


async def test_ollamas_busy_model_goes_when_its_requests_end() -> None:
    async with ollama(itl_ms=5.0) as (one, adapter):
        async with working(one, "/api/generate", model="one", prompt="Once", stream=True):
            before = held_mb(one)
            assert (await adapter.make_room(300)).asked == ("one:latest",)
            assert await adapter.confirm_released(300, before_mb=before, within_s=0.1) == 0
        assert await adapter.confirm_released(300, before_mb=before, within_s=WITHIN_S) == 400


async def test_a_half_loaded_model_is_loading_and_not_resident() -> None:
    # Long enough that a busy machine asks while it loads.
    async with ollama(load_ms=1_500.0) as (_, adapter):
        load = asyncio.create_task(adapter.load("one:latest", within_s=WITHIN_S))
        await asyncio.sleep(0)
        assert (await adapter.status()).models["one:latest"] is ModelState.LOADING
        await load
        states = (await adapter.status()).models
        assert states == {"one:latest": ModelState.RESIDENT, "two:latest": ModelState.COLD}
        with pytest.raises(AdapterError, match="answered 404"):
            await adapter.load("three", within_s=WITHIN_S)
    async with running(engine="tfserving", models=("m",), load_ms=1_500.0) as one:
        tf = TfServingAdapter(one.backend_url, ("m", "n"), lambda: None)
        assert (await tf.status()).models == {"m": ModelState.LOADING, "n": ModelState.COLD}

        while (await tf.status()).models["m"] is ModelState.LOADING:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)
        assert (await tf.status()).models["m"] is ModelState.RESIDENT


async def test_an_engine_that_answers_500_or_is_gone_is_not_alive() -> None:
    async with vllm() as (one, adapter):
        one.engine.fault = parse_fault("unhealthy")
        assert await adapter.status() == Status(alive=False, detail="/health answered 503")
        one.engine.fault = parse_fault("refuse")
        assert not (await adapter.status()).alive
        assert await adapter.busy() == Busy()
        assert (await adapter.make_room(5)).asked == ()


async def test_an_engine_that_drains_with_500s_is_not_alive_and_is_asked_for_nothing() -> None:
    async def drains(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(drains, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, HttpClient() as http:
        for adapter in (VllmAdapter(http, url, ("m",), lambda: 5), OllamaAdapter(http, url, lambda: 5)):
            status = await adapter.status()
            assert (status.alive, "answered 500" in status.detail) == (False, True)
            assert (await adapter.busy()).running is None
            room = await adapter.make_room(5)
            assert room.asked == ()
            assert room.why
            with pytest.raises(AdapterError, match=r"answered 500|none of its models"):
                await adapter.load("m2", within_s=1)
        assert not (await PlainAdapter(http, url, lambda: 5).status()).alive


async def test_tensorflow_gives_nothing_back_and_says_so() -> None:
    async with running(engine="tfserving", models=("m",), weights_bytes=100 * MIB) as one:
        adapter = TfServingAdapter(one.backend_url, ("m",), lambda: held_mb(one))
        assert (await adapter.status()).models == {"m": ModelState.RESIDENT}
        room = await adapter.make_room(50)
        assert (room.asked, room.why) == ((), "TensorFlow gives no memory back before its process ends")
        one.engine.fault = parse_fault("unhealthy")
        assert await adapter.status() == Status(alive=False, detail="UNAVAILABLE")
        with pytest.raises(AdapterError, match="model_config_file"):
            await adapter.load("m", within_s=1)


async def test_where_nothing_is_measured_nothing_is_confirmed() -> None:
    async with running() as one, HttpClient() as http:
        adapter = VllmAdapter(http, one.url, ("sim-chat",), lambda: None)
        assert (await adapter.make_room(5)).asked
        assert await adapter.confirm_released(5, before_mb=1_000, within_s=0.0) == 0


@pytest.fixture(scope="module")
def mouths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[inference.InferenceProcess]:
    """An inference server with a pinned model and two others, of which it has loaded none but the first."""
    tables = "".join(f'[inference.models.{name}]\nmodel_path = "reference:mouth"\n' for name in ("pinned", "a", "b"))
    with inference.inference(tmp_path_factory.mktemp("mouths"), f"workers_per_gpu = 1\n{tables}") as process:
        process.stub.LoadModel(pb.LoadModelRequest(model_id="pinned", pin=True), timeout=30)
        yield process


def loaded_mb(process: inference.InferenceProcess) -> int:
    """Return what the server charges its models with, as a stand-in for a GPU's own figures."""
    models = process.stub.ListModels(pb.ListModelsRequest(), timeout=10).models
    return sum(model.memory_mb for model in models if model.loaded)


async def test_inference_unloads_what_is_longest_idle_and_never_what_is_pinned(mouths) -> None:
    adapter = InferenceAdapter(mouths.ready["url"], lambda: loaded_mb(mouths))
    cold = {"pinned": ModelState.RESIDENT, "a": ModelState.COLD, "b": ModelState.COLD}
    assert await adapter.status() == Status(alive=True, models=cold, detail="ready")
    loading = asyncio.create_task(adapter.load("a", within_s=30))
    await asyncio.sleep(0)
    assert (await adapter.status()).models["a"] is not ModelState.COLD, "on its way, or there"
    await loading
    await adapter.load("b", within_s=30)
    assert set((await adapter.status()).models.values()) == {ModelState.RESIDENT}
    assert await adapter.busy() == Busy(running=0, waiting=0)

    before = loaded_mb(mouths)
    await asyncio.to_thread(mouths.stub.InferBatch, inference.request(model_id="a"), timeout=30)
    room = await adapter.make_room(1)
    assert room == Room(asked=("b",)), "`a` was used after it"
    freed = before - loaded_mb(mouths)
    assert await adapter.confirm_released(freed, before_mb=before, within_s=WITHIN_S) == freed > 0
    assert (await adapter.make_room(1 << 20)).asked == ("a",)
    assert await adapter.make_room(1) == Room(why="nothing is loaded that is not pinned")
    assert (await adapter.status()).models == cold
    with pytest.raises(AdapterError, match="nobody"):
        await adapter.load("nobody", within_s=5)


async def test_inference_tells_what_is_in_work_and_in_line(mouths) -> None:
    adapter = InferenceAdapter(mouths.ready["url"], lambda: None)
    seen: list[Busy] = []
    frames = 16
    one = inference.request(frames, model_id="pinned")
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(asyncio.to_thread(mouths.stub.InferBatch, one, timeout=60)) for _ in range(4)]
        while not all(call.done() for call in calls):
            seen.append(await adapter.busy())
    assert max(busy.running or 0 for busy in seen) >= 1
    assert await adapter.busy() == Busy(running=0, waiting=0)


async def test_an_inference_server_that_is_gone_is_not_alive() -> None:
    adapter = InferenceAdapter("grpc://127.0.0.1:9", lambda: 5)
    assert await adapter.status() == Status(alive=False, detail="UNAVAILABLE")
    assert await adapter.busy() == Busy()
    assert (await adapter.make_room(5)).asked == ()
    with pytest.raises(AdapterError):
        await adapter.load("m", within_s=1)
