"""Answers that break off in the middle and go on at another engine: the joined text is the uninterrupted one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.exchange import Answer, Exchange, chat
from tests.support.rig import MODEL, Rig, ms, rig

TOKENS = 24
#: What ends an answer in the middle: a reset, a cut, a clean end too early, the engine's own error.
ENDINGS = ("die_after", "eof_after", "end_after", "error_after")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {"max_attempts": 8, "retry_floor_per_s": 1_000.0, "idle_ms": ms(400), "breaker_failures": 1_000}
    tables = {"models": [{"name": MODEL, "continuation": True}]}
    with rig(tmp_path_factory.mktemp("seam"), edge=edge, tables=tables) as ours:
        yield ours


def say(site: Rig, sim: str, **members: Any) -> Answer:
    with Exchange(site.url) as client:
        body = chat(stream=True, **members)
        return client.send("POST", "/v1/chat/completions", body, {"x-sim": sim}).read()


def assert_one_answer(answer: Answer) -> None:
    """One stream by all signs: whole, one id, one role, one end."""
    assert answer.status == 200
    assert answer.done
    assert answer.errors == []
    assert len({(frame["id"], frame["created"]) for frame in answer.frames}) == 1
    roles = [frame for frame in answer.frames for choice in frame["choices"] if choice["delta"].get("role")]
    assert len(roles) == 1
    assert sum(b"[DONE]" in event for event in answer.data) == 1


def joined(site: Rig) -> float:
    return site.metric("headrace_continuations_total", outcome="joined")


@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_answers_killed_at_random_tokens_are_whole(site: Rig, kills: int) -> None:
    dice = random.Random(11)
    seeds = range(10)
    whole = {seed: say(site, f"seed={seed},tokens={TOKENS}").text for seed in seeds}
    assert len(set(whole.values())) == len(seeds)
    before = joined(site)
    plans = [(dice.choice(seeds), dice.choice(ENDINGS), dice.randrange(1, TOKENS)) for _ in range(kills)]

    def killed(plan: tuple[int, str, int]) -> tuple[int, Answer]:
        seed, ending, after = plan
        for _ in range(3):
            # Or the failures would be most of what the breakers see, and rightly open them.
            assert say(site, "tokens=1").done
        return seed, say(site, f"seed={seed},tokens={TOKENS}; #1 {ending}={after}")

    with ThreadPoolExecutor(8) as pool:
        for seed, answer in pool.map(killed, plans):
            assert_one_answer(answer)
            assert answer.text == whole[seed]
            assert answer.finish_reasons == ["stop"]
    assert joined(site) - before == kills
    site.wait_quiet()


def test_several_seams_in_one_answer(site: Rig) -> None:
    whole = say(site, "seed=5,tokens=60").text
    answer = say(site, "seed=5,tokens=60; #1 die_after=7; #2 eof_after=11; #3 error_after=1; #4 die_after=20")
    assert_one_answer(answer)
    assert answer.text == whole


def test_a_stall_is_a_failure_too(site: Rig) -> None:
    whole = say(site, "seed=6,tokens=20").text
    answer = say(site, "seed=6,tokens=20; #1 stall_after=5")
    assert_one_answer(answer)
    assert answer.text == whole


def test_a_resumable_stream_is_numbered_and_replayed_over_its_seam(site: Rig) -> None:
    whole = say(site, "seed=9,tokens=20")
    with Exchange(site.url) as client:
        headers = {"x-sim": "seed=9,tokens=20; #1 die_after=8", "x-headrace-resume": "30"}
        answer = client.send("POST", "/v1/chat/completions", chat(stream=True), headers).read()
        place = f"/v1/streams/{answer.headers['x-headrace-stream']}?after=5"
        again = client.send("GET", place).read()
        assert client.send("DELETE", place.partition("?")[0], b"", {"connection": "close"}).read().status == 204, (
            "the next test finds nothing kept"
        )
    lines = answer.body.splitlines()
    ids = [int(line[4:]) for line in lines if line.startswith(b"id: ")]
    assert ids == list(range(1, len(whole.data) + 1)), "every event has the next number, over the seam too"
    *chunks, done = [line[6:] for line in lines if line.startswith(b"data: ")]
    assert done == b"[DONE]"
    frames = [json.loads(line) for line in chunks]
    assert len({frame["id"] for frame in frames}) == 1
    assert "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames) == whole.text
    assert answer.body.endswith(again.body), "the ring holds what the client got"
    assert again.body.startswith(b"id: 6\n")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_counts_both_halves(site: Rig, name: str) -> None:
    whole = say(site, "seed=7,tokens=100", **{name: 30})
    answer = say(site, "seed=7,tokens=100; #1 die_after=12", **{name: 30})
    assert_one_answer(answer)
    assert answer.text == whole.text
    assert answer.finish_reasons == whole.finish_reasons == ["length"]


def test_usage_counts_both_halves_as_answer(site: Rig) -> None:
    asked = {"stream_options": {"include_usage": True}}
    whole, answer = say(site, "seed=8,tokens=20", **asked), say(site, "seed=8,tokens=20; #1 die_after=9", **asked)
    assert_one_answer(answer)
    usage = [frame["usage"] for frame in answer.frames if frame.get("usage")]
    wanted = [frame["usage"] for frame in whole.frames if frame.get("usage")]
    assert len(usage) == len(wanted) == 1
    assert usage[0]["completion_tokens"] == wanted[0]["completion_tokens"] == 20
    # The second engine reads the first half as text, whose tokens may be cut otherwise.
    assert abs(usage[0]["prompt_tokens"] - wanted[0]["prompt_tokens"]) <= 2
    line = site.line(answer.headers["x-request-id"])
    assert line["completion_tokens"] == usage[0]["completion_tokens"]
    assert line["prompt_tokens"] == usage[0]["prompt_tokens"]
    assert line["attempts"] == 2


@pytest.mark.parametrize(
    "members",
    [
        {"n": 2},
        {"logprobs": True},
        {"stop": ["zzz"]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "low"},
    ],
)
def test_what_is_more_than_text_is_not_continued(site: Rig, members: dict[str, Any]) -> None:
    before = joined(site)
    answer = say(site, "tokens=20; #1 die_after=5", **members)
    assert [error["code"] for error in answer.errors] == ["stream_broken"]
    assert answer.done
    assert joined(site) == before


def test_when_nobody_can_go_on_the_client_is_told_what_broke(site: Rig) -> None:
    before = site.metric("headrace_continuations_total", outcome="failed")
    answer = say(site, "tokens=20; #1 die_after=5; #2 status=500; #3 status=500; #4 status=500")
    assert [error["code"] for error in answer.errors] == ["stream_broken"]
    assert answer.done
    assert answer.finish_reasons == []
    assert site.metric("headrace_continuations_total", outcome="failed") == before + 1
    site.wait_quiet()


def test_an_answer_whose_text_is_complete_is_not_asked_for_again(site: Rig) -> None:
    before = joined(site)
    answer = say(site, "tokens=20,no_done=1")
    assert [error["code"] for error in answer.errors] == ["stream_broken"]
    assert joined(site) == before
