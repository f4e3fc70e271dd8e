"""Aliases and chains of models at the public door, from `headrace.toml` to the answer's headers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exchange import Answer, ask, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig

ALIASES = [
    {"name": "best", "models": ["large", "small"]},
    {"name": "cheap", "models": ["small"]},
    {"name": "lost", "models": ["nobody", "none"]},
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    simulators = {"alpha": {"models": ["large"]}, "beta": {"models": ["small"]}}
    with rig(
        tmp_path_factory.mktemp("aliases"),
        simulators,
        tables={"aliases": ALIASES},
        backends={"max_inflight": 1},
        edge={"queue_ms": 0},
        without=("edge",),
    ) as ours:
        ours.start_edge()
        ours.wait_models("large", "small", "best")
        until(lambda: ask(ours.url_of("control"), "/v1/backends").body.count(b'"up"') == 2)
        yield ours


def served(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["x-headrace-backend"], answer.headers["x-headrace-model"]


@pytest.mark.parametrize("streaming", [True, False])
def test_the_first_model_that_works_serves_and_the_answer_says_which(site: Rig, streaming: bool) -> None:
    answer = site.post(chat(model="best", stream=streaming), {"x-sim": "tokens=2"})
    assert served(answer) == (200, "alpha", "large")
    answer = site.post(chat(model="cheap", stream=streaming), {"x-sim": "tokens=2"})
    assert served(answer) == (200, "beta", "small")
    assert b'"small"' in answer.body, "what the engine says of itself is not changed"


@pytest.mark.parametrize(
    "sim", ["@alpha status=500", "@alpha status=503", "@alpha die_after=0", "@alpha error_first=1"]
)
def test_a_chain_goes_on_when_its_first_model_fails_before_the_first_event(site: Rig, sim: str) -> None:
    answer = site.post(chat(model="best", stream=True), {"x-sim": f"tokens=2; {sim}"})
    assert served(answer) == (200, "beta", "small")
    assert answer.done


def test_a_chain_goes_on_when_its_first_model_has_no_room(site: Rig) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(stream(site.url, "tokens=20000,itl_ms=20", model="best"))
        assert served(first.head()) == (200, "alpha", "large")
        second = stack.enter_context(stream(site.url, "tokens=20000,itl_ms=20", model="best"))
        assert served(second.head()) == (200, "beta", "small")
        assert site.post(chat(model="best")).status == 429
    site.wait_quiet()


def test_models_lists_aliases_and_a_wrong_name_is_told_them(site: Rig) -> None:
    rows = {row["id"]: row for row in ask(site.url, "/v1/models").json["data"]}
    assert rows["best"]["models"] == ["large", "small"]
    assert rows["best"]["backends"] == ["alpha", "beta"]
    assert rows["lost"]["backends"] == []
    assert "models" not in rows["large"]
    assert ask(site.url, "/v1/models/best").json["id"] == "best"
    answer = site.post(chat(model="bset"))
    assert answer.status == 404
    assert "aliases: best, cheap, lost" in answer.json["error"]["message"]
    answer = site.post(chat(model="lost"))
    assert answer.status == 503
    assert "no backend serves any model of the alias 'lost' (nobody, none)" in answer.json["error"]["message"]


def test_without_its_first_models_backend_the_chain_lives_on(tmp_path: Path) -> None:
    simulators = {"alpha": {"models": ["large"]}, "beta": {"models": ["small"]}}
    with rig(tmp_path, simulators, tables={"aliases": ALIASES}, without=("edge",)) as site:
        site.start_edge()
        site.wait_models("large", "small")
        site.kill("alpha")
        until(lambda: ask(site.url_of("control"), "/v1/backends").body.count(b'"down"') == 1)
        until(lambda: served(site.post(chat(model="best"), {"x-sim": "tokens=2"})) == (200, "beta", "small"))
