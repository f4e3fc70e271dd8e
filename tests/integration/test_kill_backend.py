"""Backends that are killed: before the first event, after it, between requests, and all of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from time import sleep

import pytest

from tests.support.exchange import Answer, Exchange, ask, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig

#: Control must not notice first: what is tested is what the edge does by itself.
UNAWARE = {"probe_interval_ms": 60_000}


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("killed"), control=UNAWARE) as ours:
        yield ours


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One backend; every test leaves it running again on its old port."""
    with rig(tmp_path_factory.mktemp("alone"), {"alpha": {}}, control=UNAWARE) as ours:
        yield ours


def json_request(site: Rig, sim: str) -> Exchange:
    return Exchange(site.url).send("POST", "/v1/chat/completions", chat(), {"x-sim": sim})


def test_before_the_first_event_the_other_backend_serves(pair: Rig) -> None:
    sim = "tokens=4; @alpha ttft_ms=60000"
    with stream(pair.url, sim) as streaming, json_request(pair, sim) as whole:
        until(lambda: pair.stats()["open"] == 2)
        pair.kill("alpha")
        for answer in (streaming.read(), whole.read()):
            assert answer.status == 200
            assert answer.headers["x-headrace-backend"] == "beta"
            assert answer.whole
    assert streaming.answer.done
    assert streaming.answer.errors == []
    # And with alpha still dead: its port refuses, nobody notices.
    answer = pair.post(chat(stream=True), {"x-sim": "tokens=4"})
    assert (answer.status, answer.headers["x-headrace-backend"], answer.done) == (200, "beta", True)
    pair.wait_quiet()


def test_before_the_first_event_and_nobody_else_there_it_is_a_502(alone: Rig) -> None:
    with stream(alone.url, "ttft_ms=60000") as streaming, json_request(alone, "ttft_ms=60000") as whole:
        until(lambda: alone.stats()["open"] == 2)
        alone.kill("alpha")
        for answer in (streaming.read(), whole.read()):
            assert answer.status == 502
            assert answer.json["error"]["code"] == "backend_error"
            assert "alpha" in answer.json["error"]["message"], "it says which backend failed"
    answer = alone.post(chat(stream=True))
    assert answer.status == 502, "the port refuses"
    assert "alpha" in answer.json["error"]["message"], "it says which backend failed"
    assert "Connection refused" in answer.json["error"]["message"], "and why"
    alone.start_simulator("alpha")
    assert alone.post(chat(), {"x-sim": "tokens=2"}).status == 200
    alone.wait_quiet()


def test_after_the_first_event_the_failure_is_told_in_band(alone: Rig) -> None:
    with stream(alone.url, "tokens=20000,itl_ms=5") as client:
        client.head()
        client.until(b'"content"')
        alone.kill("alpha")
        answer = client.rest()
    assert_told(answer)
    alone.start_simulator("alpha")
    alone.wait_quiet()


def assert_told(answer: Answer) -> None:
    assert answer.status == 200
    assert answer.whole
    assert answer.done
    assert answer.finish_reasons == []
    (error,) = answer.errors
    assert error["code"] == "stream_broken"


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
def test_between_requests_on_a_kept_connection_the_retry_is_free_and_unseen(alone: Rig, streaming: bool) -> None:
    """The engine is another process on the same port now: pooled connections are stale, and no client sees it."""
    with Exchange(alone.url) as client:
        for _ in range(3):
            first = client.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=2"}).read()
            assert first.status == 200
            assert alone.metric("headrace_upstream_connections", backend="alpha", state="idle") >= 1
            alone.kill("alpha")
            alone.start_simulator("alpha")
            body = chat(stream=streaming)
            answer = client.send("POST", "/v1/chat/completions", body, {"x-sim": "tokens=2"}).read()
            assert answer.status == 200
            assert alone.stats()["started"] == 1, "the new process was asked once"


def test_a_kept_connection_that_ends_without_one_byte_costs_one_free_retry(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nobody can tell a request that was never read from one that was: on a kept connection, and there only."""
    with rig(tmp_path_factory.mktemp("stale"), {"alpha": {}}, control=UNAWARE) as site:
        # The first connection is fresh: what breaks on it is the engine's failure.
        answer = site.post(chat(), {"x-sim": "tokens=2; #1 die_after=0"})
        assert (answer.status, site.metric("headrace_retries_total")) == (502, 0)
        assert site.post(chat(), {"x-sim": "tokens=2"}).status == 200
        failed = site.metric("headrace_attempts_total", outcome="failed")
        answer = site.post(chat(), {"x-sim": "tokens=2; #1 die_after=0"})
        assert answer.status == 200
        assert site.line(answer.headers["x-request-id"])["attempts"] == 2
        assert site.metric("headrace_retries_total", why="stale") == 1
        assert site.metric("headrace_retries_total", why="refused") == 0, "the budget was not touched"
        assert site.metric("headrace_attempts_total", outcome="failed") == failed + 1
        # Free once, and not for ever.
        assert site.post(chat(), {"x-sim": "die_after=0"}).status == 502
        site.wait_quiet()


def test_a_frozen_engine_that_is_killed_with_the_request_in_its_kernel(pair: Rig) -> None:
    """Sent on a kept connection and never read: a free retry there, which is refused, then the other backend."""
    assert pair.post(chat(), {"x-sim": "tokens=2"}).headers["x-headrace-backend"] == "alpha"
    pair.services["alpha"].send(signal.SIGSTOP)
    with stream(pair.url, "tokens=4") as client:
        until(lambda: pair.metric("headrace_attempts_inflight", backend="alpha") == 1)
        pair.kill("alpha")
        answer = client.read()
    assert (answer.status, answer.done, answer.headers["x-headrace-backend"]) == (200, True, "beta")
    assert pair.metric("headrace_retries_total", why="stale") == 1
    assert pair.metric("headrace_retries_total", why="refused") == 1
    pair.wait_quiet()


def test_a_connection_that_the_engine_closed_for_idleness_is_never_a_failure(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The engine closes at the very moment at which the pool would use it again: the request comes through."""
    simulators = {"alpha": {"keep_alive_idle_ms": 30.0}}
    with rig(tmp_path_factory.mktemp("idle"), simulators, control=UNAWARE) as site, Exchange(site.url) as client:
        for pause in range(60):
            answer = client.send("POST", "/v1/chat/completions", chat(), {"x-sim": "tokens=1"}).read()
            assert answer.status == 200, answer.body
            # The exchange itself takes a moment, so the pauses sweep over the engine's 30 ms.
            site.stats() if pause % 2 else client.send("GET", "/v1/models").read()
            wait_ms(15 + pause // 2)
        assert site.metric("headrace_streams_total", outcome="failed") == 0


def wait_ms(milliseconds: int) -> None:
    """Let time pass: here the passing of time itself is under test."""
    sleep(milliseconds / 1000)


def test_all_backends_down_is_a_503_and_they_are_taken_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    with rig(tmp_path_factory.mktemp("down")) as site:
        for name in ("alpha", "beta"):
            site.kill(name)
        assert site.post(chat()).status in (502, 503), "before control knows: an honest failure"

        def known() -> bool:
            return ask(site.url_of("control"), "/v1/backends").body.count(b'"down"') == 2

        until(known, what="control finds them down")
        until(lambda: site.post(chat()).status == 503)
        for streaming in (True, False):
            answer = site.post(chat(stream=streaming))
            assert answer.status == 503
            assert answer.json["error"]["code"] == "no_backend"
            assert answer.headers["x-headrace-reason"] == "rejected-no-backend"
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["x-should-retry"] == "true"
            assert "alpha" in answer.json["error"]["message"], "it says which ones"
        assert ask(site.url, "/v1/models").status == 200, "what is configured is still known"
        site.start_simulator("beta")
        until(lambda: site.post(chat(), {"x-sim": "tokens=2"}).status == 200, what="beta is used again")
        assert site.post(chat(), {"x-sim": "tokens=2"}).headers["x-headrace-backend"] == "beta"
