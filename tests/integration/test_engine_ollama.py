"""Ollama behind the gateway: its own API and its OpenAI endpoint say the same, and fail as every engine does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.exchange import Answer, ask, chat, stream
from tests.support.processes import until
from tests.support.rig import MODEL, Rig, rig

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    simulators = {name: {"engine": "ollama"} for name in ("alpha", "beta")}
    backends = {"engine": "ollama", "api": "native"}
    with rig(tmp_path_factory.mktemp("native"), simulators, backends=backends) as ours:
        yield ours


@pytest.fixture(autouse=True)
def _given_back(native: Rig) -> Iterator[None]:
    yield
    native.wait_quiet()
    native.heal()


def streamed(site: Rig, sim: str, **members: Any) -> Answer:
    with stream(site.url, sim, **members) as ours:
        return ours.read()


def usage_of(answer: Answer) -> list[Any]:
    return [frame["usage"] for frame in answer.frames if frame.get("usage")]


@pytest.mark.parametrize(
    "sim",
    ["seed=3,tokens=40", "seed=5,tokens=20,split=7", "seed=5,tokens=20,crlf=true", "seed=6,tokens=20,merge=4"],
)
def test_both_apis_say_the_same_text(native: Rig, sim: str) -> None:
    own = streamed(native, sim)
    # The engine's OpenAI endpoint, asked without us.
    with stream(native.url_of("alpha"), sim) as direct:
        theirs = direct.read()
    assert own.text == theirs.text
    assert own.text
    assert own.finish_reasons == theirs.finish_reasons == ["stop"]
    assert own.done
    assert own.whole


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_whole_answer_says_what_a_stream_says(native: Rig, path: str) -> None:
    body: dict[str, Any] = {"model": MODEL, "seed": 4, "max_tokens": 20}
    body |= (
        {"prompt": "Once upon"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "Hi"}]}
    )
    whole = ask(native.url, path, body)
    assert whole.status == 200, whole.body
    choice = whole.json["choices"][0]
    said = choice["text"] if "text" in choice else choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert whole.json["usage"]["completion_tokens"] == 20
    flowing = ask(native.url, path, {**body, "stream": True})
    assert flowing.text == said


def test_usage_is_counted_and_shown_to_those_who_ask(native: Rig) -> None:
    assert not usage_of(streamed(native, "tokens=5"))
    (usage,) = usage_of(streamed(native, "tokens=5", stream_options={"include_usage": True}))
    assert usage["completion_tokens"] >= 5
    answer = native.post({**chat(), "stream": True}, {"x-sim": "tokens=5", "x-request-id": "ollama-usage"})
    assert answer.status == 200
    assert native.line("ollama-usage")["completion_tokens"] >= 5


def test_a_tool_is_called(native: Rig) -> None:
    messages = [{"role": "user", "content": "Use weather for Graz."}]
    body = {"model": MODEL, "messages": messages, "tools": [TOOL]}
    choice = ask(native.url, "/v1/chat/completions", body).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    flowing = ask(native.url, "/v1/chat/completions", {**body, "stream": True})
    assert flowing.finish_reasons == ["tool_calls"]


def test_thinking_is_told_apart(native: Rig) -> None:
    body = {**chat(), "think": True}
    message = native.post(body, {"x-sim": "tokens=12"}).json["choices"][0]["message"]
    assert message["reasoning"]
    assert message["content"]


BREAKS = {
    "reset": "die_after=3",
    "closed": "eof_after=3",
    "ended-without-a-last-line": "end_after=3",
    "last-line-without-a-reason": "no_finish=true",
    "no-last-line": "no_done=true",
    "half-a-line": "garbage=json,garbage_after=2",
    "no-json": "garbage=line,garbage_after=2",
    "half-a-character": "garbage=utf8,garbage_after=2",
    "error-line": "error_after=3",
}


@pytest.mark.parametrize("sim", BREAKS.values(), ids=BREAKS)
def test_a_stream_that_breaks_ends_in_an_error_frame_and_no_finish_reason(native: Rig, sim: str) -> None:
    answer = streamed(native, f"seed=4,tokens=6,{sim}")
    assert answer.status == 200
    assert answer.whole
    assert len(answer.errors) == 1
    assert answer.done
    assert not answer.finish_reasons


def test_a_line_over_its_bound_is_an_error_and_no_memory(native: Rig) -> None:
    answer = native.post({**chat(), "stream": True}, {"x-sim": "bytes=1100000,tokens=2"})
    assert (answer.status, answer.json["error"]["code"]) == (502, "event_too_large")


@pytest.mark.parametrize("sim", ["status=503", "status=500", "status=404", "status=499", "error_first=true"])
def test_a_refusal_is_taken_elsewhere(native: Rig, sim: str) -> None:
    answer = native.post(chat(), {"x-sim": f"@alpha {sim}; tokens=3"})
    assert answer.status == 200, answer.body
    assert answer.headers["x-headrace-backend"] == ("beta" if "status" in sim else "alpha")


def test_a_model_that_is_gone_everywhere_is_a_404_in_openais_shape(native: Rig) -> None:
    answer = native.post(chat(), {"x-sim": "status=404"})
    assert answer.status == 404
    assert answer.json["error"]["type"] == "not_found_error"


def test_what_ollama_cannot_be_told_is_refused_by_name_and_costs_no_engine_time(native: Rig) -> None:
    before = native.started()
    answer = native.post({**chat(), "logit_bias": {"5": 1}})
    assert (answer.status, answer.json["error"]["param"]) == (400, "logit_bias")
    assert native.started() == before


def test_embeddings_go_through_its_openai_endpoint(native: Rig) -> None:
    answer = ask(native.url, "/v1/embeddings", {"model": MODEL, "input": ["a", "b"]})
    assert answer.status == 200
    assert len(answer.json["data"]) == 2


def test_a_client_that_leaves_stops_the_work(native: Rig) -> None:
    with stream(native.url, "tokens=100000,itl_ms=5") as ours:
        ours.head()
        ours.until(b'"content":"')
    until(lambda: native.stats("alpha")["open"] == 0, what="the engine stops")
