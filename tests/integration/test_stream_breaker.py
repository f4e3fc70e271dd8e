"""A backend that keeps failing is left alone, and taken back when it is well: counted at the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exchange import Answer, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, ms, rig

FAILURES = 3
OPEN_MS = ms(400)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {"breaker_failures": FAILURES, "breaker_open_ms": OPEN_MS}
    with rig(tmp_path_factory.mktemp("breaker"), {"alpha": {}}, edge=edge) as ours:
        yield ours


@pytest.fixture(autouse=True)
def _closed(site: Rig) -> Iterator[None]:
    yield
    until(lambda: ask_for(site, "tokens=1").status == 200, what="the breaker closes")
    site.wait_quiet()


def ask_for(site: Rig, sim: str) -> Answer:
    return site.post(chat(stream=True), {"x-sim": sim})


def open_breaker(site: Rig, sim: str) -> None:
    for _ in range(FAILURES):
        ask_for(site, sim)
    until(lambda: site.metric("headrace_breaker_open", backend="alpha") == 1, what="the breaker opens")


@pytest.mark.parametrize("sim", ["die_after=0", "tokens=5,die_after=2", "tokens=5,end_after=2", "error_first=true"])
def test_failures_in_a_row_open_it_those_in_mid_stream_too(site: Rig, sim: str) -> None:
    open_breaker(site, sim)
    started = site.started()
    answer = ask_for(site, "tokens=2")
    assert answer.status == 503
    assert answer.json["error"]["code"] == "no_backend"
    assert answer.headers["x-headrace-reason"] == "rejected-no-backend"
    assert answer.headers["x-should-retry"] == "true"
    assert 0 < int(answer.headers["retry-after-ms"]) <= OPEN_MS
    assert site.started() == started, "the engine was left alone"


def test_a_good_probe_closes_it(site: Rig) -> None:
    open_breaker(site, "die_after=0")
    until(lambda: ask_for(site, "tokens=2").status == 200, ms=2 * OPEN_MS + 1_000)
    assert site.metric("headrace_breaker_open", backend="alpha") == 0
    events = [line["state"] for line in site.lines("breaker")]
    assert events[-3:] == ["open", "half_open", "closed"]


def test_a_bad_probe_opens_it_again_for_longer(site: Rig) -> None:
    open_breaker(site, "die_after=0")
    started = site.started()["alpha"]
    until(lambda: ask_for(site, "die_after=0").status == 502, ms=2 * OPEN_MS + 1_000, what="the probe is let in")
    assert site.started()["alpha"] == started + 1, "one probe, and nothing beside it"
    answer = ask_for(site, "tokens=2")
    assert answer.status == 503
    assert OPEN_MS < int(answer.headers["retry-after-ms"]) <= 2 * OPEN_MS
    assert site.started()["alpha"] == started + 1


@pytest.mark.parametrize("sim", ["status=400", "status=404", "status=429", "status=503"])
def test_refusals_that_say_nothing_about_its_health_leave_it_closed(site: Rig, sim: str) -> None:
    for _ in range(2 * FAILURES):
        ask_for(site, sim)
    assert ask_for(site, "tokens=2").status == 200


def test_clients_that_leave_leave_it_closed(site: Rig) -> None:
    for _ in range(2 * FAILURES):
        with stream(site.url, "tokens=500,itl_ms=20") as ours:
            ours.head()
            ours.until(b'"content"')
    site.wait_quiet()
    assert ask_for(site, "tokens=2").status == 200


def test_a_good_answer_between_failures_keeps_it_closed(site: Rig) -> None:
    for _ in range(3):
        for sim in ["die_after=0"] * (FAILURES - 1):
            assert ask_for(site, sim).status == 502
        assert ask_for(site, "tokens=2").status == 200
