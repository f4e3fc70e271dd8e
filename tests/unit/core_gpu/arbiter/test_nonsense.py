"""Engines that answer nonsense: an adapter says so, or takes it for nothing said."""

from __future__ import annotations

import asyncio

import pytest

from core_gpu.arbiter.adapters.contract import ModelState, Status
from core_gpu.arbiter.adapters.ollama import OllamaAdapter
from core_gpu.arbiter.adapters.vllm import VllmAdapter
from streamkit.ops.http_client import Response

BAD = {"syntax": b"{", "utf-8": b'{"models": [{"name": "\xff"}], "data": [{"id": "\xff"}]}', "depth": b"[" * 40_000}


class Nonsense:
    """Answers everything with 200 and the same bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def get(self, _url: str, **_: object) -> Response:
        return Response(200, self._body)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_ollama_is_not_alive_for_it(body: bytes):
    found = asyncio.run(OllamaAdapter(Nonsense(body), "http://engine", lambda: None).status())
    assert not found.alive
    assert "/api/tags is not what Ollama says" in found.detail


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_vllm_is_awake_and_serves_what_it_was_said_to(body: bytes):
    asked = VllmAdapter(Nonsense(body), "http://engine", (), lambda: None)
    assert asyncio.run(asked.status()) == Status(alive=True, models={})
    told = VllmAdapter(Nonsense(body), "http://engine", ("m",), lambda: None)
    assert asyncio.run(told.status()).models == {"m": ModelState.RESIDENT}
