"""A truncated answer never looks complete (law 5): all ways in which an engine can fail, and what clients hear."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.exchange import Answer, Exchange, chat, stream
from tests.support.rig import Rig, rig

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("endings")) as ours:
        yield ours


@pytest.fixture(autouse=True)
def _healthy(site: Rig) -> Iterator[None]:
    yield
    site.wait_quiet()
    site.heal()


def streamed(site: Rig, sim: str, **members: Any) -> Answer:
    headers = {"x-request-id": f"endings-{next(_NUMBERS)}"}
    with stream(site.url, sim, headers=headers, **members) as ours:
        return ours.read()


def assert_honest_failure(answer: Answer, *, code: str | int = "stream_broken") -> None:
    """200, some tokens, then one error frame, `[DONE]`, and the end of the body."""
    assert answer.status == 200
    assert answer.whole, "the body must end as HTTP says, or the frames before it could be lost"
    (error,) = answer.errors
    assert error["code"] == code
    assert error["message"]
    assert answer.done
    assert b'"error"' in answer.data[-2], "the error is the last word before [DONE]"


BREAKS = {
    "reset": "die_after=3",
    "closed": "eof_after=3",
    "ended-without-finish": "end_after=3",
    "done-without-finish": "no_finish=true",
    "closed-without-length": "end_after=3,close_delimited=true",
    "reset-in-pieces": "die_after=3,split=9",
}


@pytest.mark.parametrize("sim", BREAKS.values(), ids=BREAKS)
def test_a_stream_that_breaks_ends_in_an_error_frame_and_done_and_no_finish_reason(site: Rig, sim: str) -> None:
    before = site.metric("headrace_attempts_total", backend="alpha", outcome="failed")
    answer = streamed(site, f"seed=4,tokens=6,{sim}")
    assert_honest_failure(answer)
    assert answer.finish_reasons == []
    whole = streamed(site, "seed=4,tokens=6").text
    assert answer.text
    assert whole.startswith(answer.text)
    line = site.line(answer.headers["x-request-id"])
    assert (line["outcome"], line["code"], line["attempts"]) == ("failed", "stream_broken", 1)
    assert site.metric("headrace_attempts_total", backend="alpha", outcome="failed") == before + 1


def test_an_end_without_done_is_a_failure_even_after_the_finish_reason(site: Rig) -> None:
    answer = streamed(site, "tokens=4,no_done=true")
    assert_honest_failure(answer)
    assert answer.finish_reasons == ["stop"], "the engine's own, and no other"


def test_an_engines_own_error_frame_arrives_as_it_is_and_done_once(site: Rig) -> None:
    with stream(site.url_of("alpha"), "seed=4,tokens=6,error_after=3") as ours:
        said = ours.read().data[-2]
    answer = streamed(site, "seed=4,tokens=6,error_after=3")
    assert_honest_failure(answer, code=500)
    assert answer.data[-2] == said
    assert answer.finish_reasons == []


def test_an_engines_error_frame_without_done_gets_its_done(site: Rig) -> None:
    assert_honest_failure(streamed(site, "seed=4,tokens=6,error_after=3,no_done=true"), code=500)


def test_an_answer_aborted_by_the_engine_says_so(site: Rig) -> None:
    with stream(site.url, "tokens=5000,itl_ms=5") as ours:
        ours.head()
        ours.until(b'"content"')
        with Exchange(site.url_of("alpha")) as admin:
            assert admin.send("POST", "/sleep?level=0&mode=abort").read().status == 200
        answer = ours.rest()
        with Exchange(site.url_of("alpha")) as admin:
            assert admin.send("POST", "/wake_up").read().status == 200
    assert answer.finish_reasons == ["abort"]
    assert answer.done


def test_every_choice_of_a_broken_stream_stays_unfinished(site: Rig) -> None:
    answer = streamed(site, "tokens=6,die_after=3", n=3)
    assert_honest_failure(answer)
    assert answer.finish_reasons == []
    assert {frame["choices"][0]["index"] for frame in answer.frames if frame.get("choices")} == {0, 1, 2}


def test_broken_text_completions_are_told_of_too(site: Rig) -> None:
    body = {"model": "tiny", "prompt": "Once", "stream": True}
    with Exchange(site.url) as ours:
        answer = ours.send("POST", "/v1/completions", body, {"x-sim": "tokens=6,eof_after=3"}).read()
    assert_honest_failure(answer)
    assert answer.finish_reasons == []


UNBORN = [
    "die_after=0",
    "eof_after=0",
    "end_after=0",
    "error_after=0",
    "error_first=true",
    "role_early=true,die_after=0",
]


@pytest.mark.parametrize("sim", UNBORN)
def test_a_failure_before_the_first_event_is_mended_elsewhere_and_unseen(site: Rig, sim: str) -> None:
    started = site.started()
    answer = streamed(site, f"seed=4,tokens=5; @alpha {sim}")
    assert answer.status == 200
    assert answer.errors == []
    assert answer.done
    assert answer.headers["x-headrace-backend"] == "beta"
    ids = {frame["id"] for frame in answer.frames}
    assert len(ids) == 1, "of one attempt only"
    after = site.started()
    assert {name: after[name] - started[name] for name in after} == {"alpha": 1, "beta": 1}


@pytest.mark.parametrize("sim", UNBORN)
def test_a_failure_before_the_first_event_everywhere_is_a_502_with_retry_advice(site: Rig, sim: str) -> None:
    answer = streamed(site, f"tokens=5,{sim}")
    assert answer.status == 502
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"]["code"] == "backend_error"
    assert answer.json["error"]["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "true"
    assert int(answer.headers["retry-after"]) >= 1
    assert site.line(answer.headers["x-request-id"])["attempts"] == 2


def test_the_attempt_number_selects_too(site: Rig) -> None:
    answer = streamed(site, "tokens=5; #1 die_after=0")
    assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "beta")


@pytest.mark.parametrize("sim", ["die_after=2", "eof_after=2", "error_after=2"])
def test_a_whole_answer_that_fails_is_asked_for_elsewhere(site: Rig, sim: str) -> None:
    answer = site.post(chat(), {"x-sim": f"tokens=5; @alpha {sim}"})
    assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "beta")
    answer = site.post(chat(), {"x-sim": f"tokens=5,{sim}"})
    assert answer.status == 502
    assert answer.json["error"]["code"] == "backend_error"


def test_a_stream_after_a_failed_one_on_the_same_connection_is_sound(site: Rig) -> None:
    with Exchange(site.url) as ours:
        for sim in ("tokens=6,die_after=3", "tokens=6", "tokens=6,die_after=0", "tokens=6"):
            headers = {"x-sim": sim}
            answer = ours.send("POST", "/v1/chat/completions", chat(stream=True), headers).read()
            assert answer.whole
            assert answer.status == (200 if sim != "tokens=6,die_after=0" else 502)
    assert answer.done
    assert answer.errors == []
