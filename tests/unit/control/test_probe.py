"""Probes against scripted answers: every way to fail has a few words for a person."""

from __future__ import annotations

import pytest

from control.health import Finding
from control.probe import probe
from streamkit.ops.http_client import HttpError, Response
from streamkit.wire.backend import Backend

pytestmark = pytest.mark.anyio
CARDS = Response(200, b'{"object":"list","data":[{"id":"m","object":"model"}]}')
OK = Response(200, b"")


class Script:
    """Answers by path; an exception is raised."""

    def __init__(self, answers: dict[str, Response | HttpError]) -> None:
        self.answers = answers

    async def get(self, url: str, *, timeout_ms: int, headers: object = ()) -> Response:
        answer = self.answers.get(url.removeprefix("http://engine/base"), Response(404, b'{"detail":"Not Found"}'))
        if isinstance(answer, HttpError):
            raise answer
        return answer


async def ask(engine: str, answers: dict[str, Response | HttpError], models: tuple[str, ...] = ()) -> Finding:
    backend = Backend(name="b", engine=engine, url="http://engine/base/", models=models)  # type: ignore[arg-type]
    return await probe(Script(answers), backend, timeout_ms=1_000)


@pytest.mark.parametrize(
    ("reason", "words"),
    [("connect", "cannot connect"), ("timeout", "no answer in time"), ("closed", "closed the connection")],
)
async def test_calls_that_bring_no_answer(reason, words):
    finding = await ask("vllm", {"/health": HttpError(reason, "a long story")})
    assert finding == Finding(ok=False, detail=words, timed_out=reason == "timeout")


BAD_ANSWERS = [
    ("vllm", {"/health": Response(503, b'{"detail": "\xff"}')}, (), "/health says 503"),
    ("vllm", {"/health": Response(503, b"")}, (), "/health says 503"),
    ("vllm", {"/health": OK}, (), "/v1/models says 404: Not Found"),
    ("vllm", {"/health": OK, "/v1/models": Response(401, b'{"error":"Unauthorized"}')}, ("m",), "api_key_env"),
    ("vllm", {"/health": OK, "/v1/models": Response(200, b"<html>")}, (), "not what a vllm engine says"),
    ("vllm", {"/health": OK, "/v1/models": Response(200, b'{"data":[{}]}')}, (), "not what a vllm engine says"),
    ("openai", {"/v1/models": Response(500, b"Internal Server Error")}, ("m",), "/v1/models says 500"),
    ("openai", {"/health": OK, "/v1/models": Response(500, b"[1]")}, (), "/v1/models says 500"),
    ("ollama", {"/api/version": OK}, (), "/api/tags says 404"),
    ("ollama", {"/api/tags": OK}, (), "/api/version says 404"),
    ("tfserving", {}, (), "name them in `models`"),
]


@pytest.mark.parametrize(("engine", "answers", "models", "words"), BAD_ANSWERS)
async def test_bad_answers(engine, answers, models, words):
    finding = await ask(engine, answers, models)
    assert not finding.ok
    assert words in finding.detail
    assert len(finding.detail) <= 120
    assert not finding.timed_out


async def test_a_list_that_is_no_text_is_a_finding():
    finding = await ask("vllm", {"/health": OK, "/v1/models": Response(200, CARDS.body.replace(b'"m"', b'"\xff"'))})
    assert not finding.ok
    assert "not what a vllm engine says" in finding.detail


async def test_a_long_story_is_cut():
    answer = Response(500, b'{"error":{"message":"%s"}}' % (b"x" * 1_000))
    finding = await ask("vllm", {"/health": answer})
    assert len(finding.detail) == 120
    assert finding.detail.endswith("x…")


async def test_configured_models_stand_and_what_is_odd_is_said():
    finding = await ask("vllm", {"/health": OK, "/v1/models": CARDS}, ("m", "lora"))
    assert finding == Finding(ok=True, models=None, detail="configured, but not listed by the engine: lora")


async def test_configured_models_need_no_list_where_there_is_a_health_page():
    """`transformers serve` answers 500 to `/v1/models` when a model's folder is odd, and serves."""
    answers: dict[str, Response | HttpError] = {"/health": OK, "/v1/models": Response(500, b"Internal Server Error")}
    assert await ask("openai", answers, ("m",)) == Finding(ok=True, detail="/v1/models says 500")


async def test_ollama_without_any_model_is_up():
    answers: dict[str, Response | HttpError] = {"/api/version": OK, "/api/tags": Response(200, b'{"models":null}')}
    assert await ask("ollama", answers) == Finding(ok=True, models=())
