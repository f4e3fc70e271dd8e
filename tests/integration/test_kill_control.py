"""Control is never on a token's way (law 1): killed, restarted, or never there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exchange import ask, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    # Answers are refreshed all the time, so the cache is what serves while control is away.
    with rig(tmp_path_factory.mktemp("control"), control={"route_ttl_ms": 50}) as ours:
        yield ours


def served(site: Rig, **members: object) -> bool:
    answer = site.post(chat(**members), {"x-sim": "tokens=3"})
    return answer.status == 200 and (answer.done if members.get("stream") else True)


def test_killed_it_is_not_missed_and_restarted_it_is_used_again(site: Rig) -> None:
    assert served(site)
    assert served(site, stream=True)
    with stream(site.url, "seed=8,tokens=120,itl_ms=15") as running:
        running.head()
        running.until(b'"content"')
        site.kill("control")

        for _ in range(20):
            assert served(site), "new answers start from the cache"
            assert served(site, stream=True), "and new streams"
        assert ask(site.url, "/v1/models").status == 200
        assert ask(site.url, "/v1/models/tiny").json["id"] == "tiny"
        # Its age is told, and the process stays ready: it can serve.
        age = site.metric("headrace_control_age_seconds")
        until(lambda: site.metric("headrace_control_age_seconds") > age + 0.2, what="the age rises")
        assert ask(site.ops_url(), "/readyz").status == 200
        assert site.metric("headrace_routes_total", source="stale") > 0

        answer = running.rest()
    assert answer.done
    assert answer.errors == []
    assert len([frame for frame in answer.frames if frame["choices"]]) == 120 + 1

    # What was never asked for is not in the cache: an honest 503.
    refused = site.post({**chat(), "model": "unheard-of"})
    assert refused.status == 503
    assert refused.json["error"]["code"] == "no_route"
    assert refused.headers["x-headrace-reason"] == "rejected-no-route"
    assert int(refused.headers["retry-after"]) >= 1

    # Another life of control, with one backend less: the edge hears of it and forgets the old answers.
    site.kill("alpha")
    site.start_control()
    until(lambda: site.metric("headrace_control_age_seconds") < 0.5, what="control is heard again")

    def only_beta() -> bool:
        body = ask(site.url_of("control"), "/v1/backends").body
        return body.count(b'"down"') == 1 and served(site)

    until(only_beta)
    started = site.stats("beta")["started"]
    for _ in range(5):
        answer = site.post(chat(), {"x-sim": "tokens=2"})
        assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "beta")
    assert site.stats("beta")["started"] == started + 5
    refused = site.post({**chat(), "model": "unheard-of"})
    assert refused.json["error"]["code"] == "no_backend", "control answers again; alpha may have it, for all it knows"


def test_never_there_everything_is_a_503_until_it_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    with rig(tmp_path_factory.mktemp("headless"), {"alpha": {}}, without=("edge",)) as site:
        site.kill("control")
        site.start_edge()
        for streaming in (True, False):
            answer = site.post(chat(stream=streaming))
            assert answer.status == 503
            assert answer.json["error"]["code"] == "no_route"
            assert answer.headers["x-headrace-reason"] == "rejected-no-route"
            assert answer.headers["x-should-retry"] == "true"
            assert int(answer.headers["retry-after"]) >= 1
        models = ask(site.url, "/v1/models")
        assert (models.status, models.json["error"]["code"]) == (503, "no_route")
        ready = ask(site.ops_url(), "/readyz")
        assert ready.status == 503
        assert b"control" in ready.body
        assert ask(site.ops_url(), "/healthz").status == 200, "it lives; a restart would not help"
        assert site.held() == {}

        site.start_control()
        until(lambda: served(site), what="the edge finds control")
        site.wait_models("tiny")
        assert ask(site.ops_url(), "/readyz").status == 200


def test_an_engine_that_is_added_by_a_restart_of_control_is_used(site: Rig) -> None:
    assert served(site)
    site.kill("control")
    site.start_simulator("gamma", {"models": ["other"]})
    file = site.folder / "headrace.toml"
    extra = f'[[backends]]\nname = "gamma"\nurl = "{site.url_of("gamma")}"\nengine = "vllm"\nsimulated = true\n'
    file.write_text(f"{file.read_text()}\n{extra}")
    site.start_control()
    site.wait_models("tiny", "other")
    answer = site.post({**chat(), "model": "other"}, {"x-sim": "tokens=2"})
    assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "gamma")
