"""The simulated TensorFlow Serving: both its ports, and its memory that never comes back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from simulator.server import Simulator
from streamkit.wire.pb import tfserving_pb2 as pb
from streamkit.wire.pb import tfserving_pb2_grpc as services
from tests.unit.simulator.raw import request, running, send

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """One loop only: gRPC keeps a poller of its own for each process."""
    return request.param


@contextlib.asynccontextmanager
async def tf(**settings: Any) -> AsyncIterator[tuple[Simulator, services.ModelServiceStub]]:
    async with (
        running(engine="tfserving", models=("m",), weights_bytes=100, **settings) as one,
        grpc.aio.insecure_channel(one.backend_url.removeprefix("grpc://")) as channel,
    ):
        yield one, services.ModelServiceStub(channel)


async def states(stub: services.ModelServiceStub, name: str) -> list[int]:
    answer = await stub.GetModelStatus(pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=name)))
    return [status.state for status in answer.model_version_status]


def configured(*names: str) -> pb.ReloadConfigRequest:
    listed = pb.ModelConfigList(config=[pb.ModelConfig(name=name, base_path=f"/models/{name}") for name in names])
    return pb.ReloadConfigRequest(config=pb.ModelServerConfig(model_config_list=listed))


async def test_both_ports_tell_the_state() -> None:
    async with tf() as (one, stub):
        assert await states(stub, "m") == [pb.ModelVersionStatus.AVAILABLE]
        told = (await send(one, request("/v1/models/m"))).json
        assert told["model_version_status"][0]["state"] == "AVAILABLE"
        assert (await send(one, request("/v1/models/x"))).code == 404
        with pytest.raises(grpc.aio.AioRpcError, match="Could not find any versions of model x"):
            await states(stub, "x")


async def test_a_half_loaded_model() -> None:
    async with tf(load_ms=60_000.0) as (one, stub):
        assert await states(stub, "m") == [pb.ModelVersionStatus.LOADING]
        assert one.engine.vram.held_bytes == 100
        async with grpc.aio.insecure_channel(one.backend_url.removeprefix("grpc://")) as channel:
            predict = services.PredictionServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="Servable not found"):
                await predict.Predict(pb.PredictRequest(model_spec=pb.ModelSpec(name="m")))


async def test_a_reload_loads_and_unloads_and_gives_no_memory_back() -> None:
    async with tf() as (one, stub):
        await stub.HandleReloadConfigRequest(configured("m", "n"))
        assert one.engine.vram.held_bytes == 200
        await stub.HandleReloadConfigRequest(configured("n"))
        assert await states(stub, "m") == [pb.ModelVersionStatus.END]
        assert await states(stub, "n") == [pb.ModelVersionStatus.AVAILABLE]
        assert one.engine.vram.held_bytes == 200
        with pytest.raises(grpc.aio.AioRpcError, match="unique"):
            await stub.HandleReloadConfigRequest(configured("n", "n"))
