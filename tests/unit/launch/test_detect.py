"""The answers are those of the captured engines, cut to what tells them apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from launch import detect
from tests.unit.simulator.raw import running

pytestmark = pytest.mark.anyio

VLLM = {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "vllm", "root": "/srv/tiny"}]}
LLAMA = {"models": [{"name": "tiny"}], "object": "list", "data": [{"id": "tiny", "owned_by": "llamacpp"}]}
OLLAMA = {"object": "list", "data": [{"id": "llama3.2:latest", "object": "model", "owned_by": "library"}]}
TAGS = {"models": [{"name": "llama3.2:latest"}]}


@asynccontextmanager
async def engine(pages: Mapping[str, object]) -> AsyncIterator[str]:
    """Serve JSON by path; an int is a bare status, bytes the body of a 404, and everything else is a bare one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
                page = pages.get(path, 404)
                if isinstance(page, bytes):
                    status, body = 404, page
                else:
                    status, body = (page, b"") if isinstance(page, int) else (200, json.dumps(page).encode())
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("pages", "product", "flavour", "models"),
    [
        ({"/v1/models": VLLM}, "vLLM", "vllm", ("tiny",)),
        ({"/v1/models": LLAMA, "/api/tags": TAGS}, "llama-server", "openai", ("tiny",)),
        ({"/v1/models": OLLAMA, "/api/tags": TAGS}, "Ollama", "ollama", ("llama3.2:latest",)),
        ({"/v1/models": {"data": [{"id": "m"}]}}, "OpenAI-compatible", "openai", ("m",)),
    ],
)
async def test_an_engine_is_known_by_its_answers(pages, product, flavour, models):
    async with engine(pages) as url:
        (found,) = await detect.find([url])
    assert found.backend is not None
    assert (found.product, found.backend.engine, found.models) == (product, flavour, models)
    assert found.backend.url == url
    assert not found.backend.simulated


async def test_a_simulator_is_called_one():
    async with engine({"/v1/models": VLLM, "/sim/fault": {"fault": None}}) as url:
        (found,) = await detect.find([url])
    assert found.product == "simulator"
    assert found.backend is not None
    assert found.backend.simulated


async def test_tensorflow_serving_is_told_and_must_be_named():
    said = b'{"error": "Could not find any versions of model headrace"}'
    async with engine({"/v1/models/headrace": said}) as url:
        (found,) = await detect.find([url])
    assert (found.backend, found.product) == (None, "TensorFlow Serving")
    assert "grpc://127.0.0.1:8500" in found.note


@pytest.mark.parametrize(
    ("flavour", "engine_name"), [("vllm", "vllm"), ("ollama", "ollama"), ("llama-server", "openai")]
)
async def test_every_simulator_is_found_as_what_it_stands_in_for(flavour, engine_name):
    async with running(engine=flavour) as simulator:
        (found,) = await detect.find([simulator.url])
    assert found.backend is not None
    assert (found.backend.engine, found.backend.simulated, found.models) == (engine_name, True, ("sim-chat",))


async def test_the_simulated_tensorflow_serving_is_told_as_the_real_one():
    async with running(engine="tfserving") as simulator:
        (found,) = await detect.find([simulator.url])
    assert (found.backend, found.product) == (None, "TensorFlow Serving")


async def test_an_ollama_without_models_is_told_and_not_used():
    async with engine({"/v1/models": {"object": "list", "data": None}, "/api/tags": {"models": []}}) as url:
        (found,) = await detect.find([url])
    assert found.backend is None
    assert "ollama pull" in found.note


@pytest.mark.parametrize("status", [401, 403])
async def test_an_engine_that_wants_a_key_is_told_and_not_used(status):
    async with engine({"/v1/models": status}) as url:
        (found,) = await detect.find([url])
    assert found.backend is None
    assert "api_key_env" in found.note


@pytest.mark.parametrize("pages", [{}, {"/v1/models": 500}, {"/v1/models": []}, {"/v1/models": {"data": []}}])
async def test_anything_else_is_no_finding(pages):
    async with engine(pages) as url:
        assert await detect.find([url]) == []


async def test_silence_is_no_finding_and_order_is_kept():
    async with engine({"/v1/models": LLAMA}) as one, engine({"/v1/models": VLLM}) as two:
        found = await detect.find([one, "http://127.0.0.1:9", two])
    assert [finding.product for finding in found] == ["llama-server", "vLLM"]
