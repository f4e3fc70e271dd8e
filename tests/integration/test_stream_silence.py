"""Engines that take their time: commit and heartbeats, deadlines that count data events only, retries unseen."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from tests.support.exchange import chat, stream
from tests.support.rig import Rig, ms, rig

COMMIT_MS = ms(150)
HEARTBEAT_MS = ms(80)
FIRST_EVENT_MS = ms(700)
IDLE_MS = ms(500)
RESPONSE_MS = ms(700)
EDGE = {
    "commit_after_ms": COMMIT_MS,
    "heartbeat_ms": HEARTBEAT_MS,
    "first_event_ms": FIRST_EVENT_MS,
    "idle_ms": IDLE_MS,
    "response_ms": RESPONSE_MS,
}
SLOW = f"seed=1,tokens=4,ttft_ms={ms(500)}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("silence"), edge=EDGE) as ours:
        yield ours


@pytest.fixture(autouse=True)
def _healthy(site: Rig) -> Iterator[None]:
    yield
    site.wait_quiet()
    site.heal()


def test_status_and_headers_come_with_the_first_event_and_no_ping_when_it_is_quick(site: Rig) -> None:
    with stream(site.url, "tokens=4") as ours:
        answer = ours.read()
    assert (answer.status, answer.pings, answer.done) == (200, 0, True)


def test_a_slow_first_token_is_committed_with_a_heartbeat_and_then_streams(site: Rig) -> None:
    began = monotonic()
    with stream(site.url, SLOW) as ours:
        answer = ours.head()
        committed_ms = (monotonic() - began) * 1000
        assert ours.chunk() == b": ping\n\n"
        ours.rest()
    assert answer.status == 200
    assert committed_ms >= COMMIT_MS * 0.9
    assert answer.pings >= 2
    assert answer.events[: answer.pings] == [b": ping\n\n"] * answer.pings, "pings before the first token only"
    assert answer.done
    assert answer.finish_reasons == ["stop"]


def test_heartbeats_go_out_between_slow_tokens_and_never_inside_an_event(site: Rig) -> None:
    with stream(site.url, f"seed=1,tokens=3,itl_ms={ms(280)},split=40") as ours:
        answer = ours.read()
    assert answer.pings >= 2
    assert answer.done
    assert all(chunk.endswith(b"\n\n") for chunk in answer.chunks)
    with stream(site.url, "seed=1,tokens=3") as ours:
        assert answer.text == ours.read().text


@pytest.mark.parametrize(
    "silence",
    [
        "stall_after=0",
        "stall_headers=true",
        "role_only=true",
        "stall_after=0,keepalive_ms=20",
        "role_early=true,stall_after=0",
    ],
)
def test_no_first_event_in_time_is_retried_elsewhere_and_the_client_sees_heartbeats_only(
    site: Rig, silence: str
) -> None:
    with stream(site.url, f"seed=2,tokens=5; @alpha {silence}") as ours:
        answer = ours.read()
    assert answer.status == 200
    assert answer.pings >= 2
    assert answer.done
    assert answer.errors == []
    assert answer.finish_reasons == ["stop"]
    roles = [frame for frame in answer.frames if frame["choices"][0]["delta"].get("role")]
    assert len(roles) == 1, "only the attempt that serves has said who speaks"
    line = site.line(answer.headers["x-request-id"])
    assert (line["attempts"], line["backend"], line["outcome"]) == (2, "beta", "finished")


def test_no_first_event_anywhere_ends_in_an_error_frame_once_committed(site: Rig) -> None:
    began = monotonic()
    with stream(site.url, "stall_after=0,keepalive_ms=20") as ours:
        answer = ours.read()
    took_ms = (monotonic() - began) * 1000
    assert answer.status == 200
    assert answer.whole
    (error,) = answer.errors
    assert error["code"] == "backend_timeout"
    assert answer.done
    assert answer.finish_reasons == []
    assert 2 * FIRST_EVENT_MS * 0.9 <= took_ms <= 2 * FIRST_EVENT_MS + ms(10_000)


@pytest.mark.parametrize("silence", ["stall_after=3", "stall_after=3,keepalive_ms=20"])
def test_a_stall_in_mid_stream_is_cut_at_the_idle_deadline_whatever_the_engine_pings(site: Rig, silence: str) -> None:
    with stream(site.url, f"seed=3,tokens=9,{silence}") as ours:
        answer = ours.read()
    assert answer.whole
    (error,) = answer.errors
    assert error["code"] == "stream_stalled"
    assert answer.done
    assert answer.finish_reasons == []
    last_token = next(
        at for chunk, at in reversed(list(zip(answer.chunks, answer.times, strict=True))) if b"token_ids" in chunk
    )
    waited_ms = (answer.times[-1] - last_token) * 1000
    assert IDLE_MS * 0.9 <= waited_ms <= IDLE_MS + ms(10_000)
    assert answer.pings >= 2, "the client was kept informed meanwhile"


def test_a_whole_answer_that_does_not_come_is_asked_for_elsewhere(site: Rig) -> None:
    answer = site.post(chat(), {"x-sim": "tokens=3; @alpha stall_after=1"})
    assert answer.status == 200
    assert answer.headers["x-headrace-backend"] == "beta"


def test_a_whole_answer_that_comes_from_nobody_is_a_504_with_retry_advice(site: Rig) -> None:
    answer = site.post(chat(), {"x-sim": "stall_after=1"})
    assert answer.status == 504
    assert answer.json["error"]["code"] == "backend_timeout"
    assert int(answer.headers["retry-after-ms"]) > 0


def test_a_client_that_leaves_while_it_was_sent_only_heartbeats_frees_the_engine(site: Rig) -> None:
    with stream(site.url, "stall_after=0") as ours:
        ours.head()
        ours.until(b": ping")
    site.wait_quiet()
