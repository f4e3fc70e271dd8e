"""Control over real sockets: it probes engines, each in its own way, and routes to those that are well."""

from __future__ import annotations

import json
import socket

import grpc
import grpc.aio
import pytest

from streamkit.wire.backend import Backend
from streamkit.wire.pb import tfserving_pb2 as tf
from streamkit.wire.pb import tfserving_pb2_grpc as services
from tests.integration.control_desk import LOADING, Engine, cards, desk, free_url, report, served

pytestmark = pytest.mark.anyio


async def test_models_are_discovered_and_routed():
    engine = Engine(health=(200, ""), v1__models=cards("tiny", "other"))
    async with served(engine) as url, desk(Backend(name="gpu1", engine="vllm", url=url)) as control:
        await control.health("gpu1", "up")
        answer = await control.route("tiny")
        assert [(c.backend, c.url, c.model, c.max_inflight) for c in answer.candidates] == [
            ("gpu1", url, "tiny", 256)
        ]
        assert answer.shed is None
        assert answer.ttl_ms == 1_000
        models = json.loads((await control.get("/v1/models")).body)
        assert [model["id"] for model in models["data"]] == ["other", "tiny"]
        assert models["data"][0]["backends"] == [{"name": "gpu1", "health": "up", "simulated": False}]
        unknown = await control.route("nonesuch")
        assert unknown.shed is not None
        assert unknown.shed.code == "model_not_found"
        assert "other, tiny" in unknown.shed.message


@pytest.mark.parametrize(
    ("engine", "pages", "models"),
    [
        ("vllm", {"health": (200, ""), "v1__models": cards("m")}, ("m",)),
        ("openai", {"v1__models": cards("m")}, ("m",)),
        ("openai", {"health": (200, {"status": "ok"}), "v1__models": cards("m")}, ("m",)),
        (
            "ollama",
            {"api__version": (200, {"version": "0.9"}), "api__tags": (200, {"models": [{"name": "m:latest"}]})},
            ("m:latest",),
        ),
    ],
)
async def test_each_engine_is_asked_in_its_own_way(engine, pages, models):
    async with (
        served(Engine(**pages)) as url,
        desk(Backend(name="b", engine=engine, url=url)) as control,
    ):
        snapshot = await control.health("b", "up")
        assert snapshot.backends[0].models == models
        assert (await control.route("m")).candidates[0].model == models[0]


class ModelStates(services.ModelServiceServicer):
    """TensorFlow Serving's ModelService with a state for each model that it has."""

    def __init__(self, **states):
        self.states = states

    async def GetModelStatus(self, request, context):  # noqa: N802 - the API's name
        state = self.states.get(request.model_spec.name)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no versions found")
        return tf.GetModelStatusResponse(model_version_status=[tf.ModelVersionStatus(version=1, state=state)])


async def test_tensorflow_serving_is_asked_for_each_model():
    server = grpc.aio.server()
    states = ModelStates(a=tf.ModelVersionStatus.AVAILABLE, b=tf.ModelVersionStatus.END)
    services.add_ModelServiceServicer_to_server(states, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        backend = Backend(name="tf", engine="tfserving", url=f"grpc://127.0.0.1:{port}", models=("a", "b", "c"))
        async with desk(backend) as control:
            snapshot = await control.health("tf", "up")
            assert snapshot.backends[0].models == ("a",)
            assert snapshot.backends[0].detail == "not available: b, c"
    finally:
        await server.stop(None)


async def test_inference_is_up_while_its_port_answers():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with desk(Backend(name="onnx", engine="inference", url=url, models=("face",))) as control:
            await control.health("onnx", "up")
            sock.close()
            snapshot = await control.health("onnx", "down")
            assert snapshot.backends[0].detail == "cannot connect"


async def test_a_loading_engine_is_down_and_says_why():
    engine = Engine(health=LOADING, v1__models=cards("m"))
    async with (
        served(engine) as url,
        desk(Backend(name="llama", engine="openai", url=url, models=("m",))) as control,
    ):
        snapshot = await control.health("llama", "down")
        assert snapshot.backends[0].detail == "/health says 503: Loading model"
        shed = (await control.route("m")).shed
        assert shed is not None
        assert (shed.code, shed.retry_after_ms) == ("no_backend", 10)
        assert "Loading model" in shed.message
        engine.pages["/health"] = (200, {"status": "ok"})
        await control.health("llama", "up")
        assert (await control.route("m")).shed is None


async def test_a_refused_connection_takes_a_backend_down():
    async with desk(Backend(name="gone", engine="vllm", url=free_url(), models=("m",))) as control:
        snapshot = await control.health("gone", "down")
        assert snapshot.backends[0].detail == "cannot connect"


async def test_silence_takes_an_idle_backend_down_but_not_a_busy_one():
    engine = Engine(health=(200, ""), v1__models=cards("m"))
    async with (
        served(engine) as url,
        desk(
            Backend(name="b", engine="vllm", url=url, models=("m",)),
            probe_timeout_ms=20,
            down_after_failures=1,
            down_after_busy_timeouts=1_000,
            edge_lost_ms=60_000,
        ) as control,
    ):
        await control.sync(report(inflight={"b": 6}))
        seen = await control.health("b", "up")
        engine.pages["/health"] = None
        while "in flight" not in seen.backends[0].detail:
            seen = await control.sync(report(inflight={"b": 6}), seen.header.sequence, 30_000)
        assert seen.backends[0].health == "up"
        await control.sync(report(sequence=1, inflight={}))
        snapshot = await control.health("b", "down")
        assert snapshot.backends[0].detail == "no answer in time"


async def test_the_engine_gets_its_key_and_the_edge_learns_it():
    engine = Engine(health=(200, ""), v1__models=cards("m"))
    async with (
        served(engine) as url,
        desk(Backend(name="b", engine="vllm", url=url), api_keys={"b": "s3cret"}) as control,
    ):
        await control.health("b", "up")
        assert {key for _, key in engine.asked} == {"Bearer s3cret"}
        assert (await control.route("m")).candidates[0].api_key == "s3cret"
        for page in ("/v1/backends", "/v1/models"):
            assert b"s3cret" not in (await control.get(page)).body
