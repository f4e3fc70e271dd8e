"""TensorFlow Serving behind the gateway: REST in, gRPC out, and the books of every other request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.exchange import Answer, Exchange, ask, chat
from tests.support.processes import until
from tests.support.rig import MODEL, Rig, ms, rig

PREDICT = f"/v1/models/{MODEL}:predict"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    simulators = {name: {"engine": "tfserving"} for name in ("alpha", "beta")}
    backends = {"engine": "tfserving", "models": [MODEL]}
    edge = {"response_ms": ms(1_000), "max_response_bytes": 65_536}
    with rig(tmp_path_factory.mktemp("tf"), simulators, backends=backends, edge=edge) as ours:
        yield ours


@pytest.fixture(autouse=True)
def _given_back(site: Rig) -> Iterator[None]:
    yield
    site.wait_quiet()


def predict(site: Rig, body: Any, sim: str = "", path: str = PREDICT, **headers: str) -> Answer:
    given = {"x-sim": sim, **headers} if sim else headers
    return ask(site.url, path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers=given)


def test_rows(site: Rig) -> None:
    answer = predict(site, {"instances": [1.0, 2.0, 5.0]})
    assert (answer.status, answer.json) == (200, {"predictions": [2.5, 3.0, 4.5]})
    assert answer.headers["x-headrace-backend"] == "alpha"
    assert answer.headers["content-type"] == "application/json"


def test_columns_and_signatures(site: Rig) -> None:
    body = {"signature_name": "pair", "inputs": {"a": [[1, 2], [3, 4]], "b": [10, 20]}}
    assert predict(site, body).json == {"outputs": {"sum": [13.0, 27.0], "label": ["row 0", "row 1"]}}
    rows = {"signature_name": "pair", "instances": [{"a": [1, 2], "b": 10}]}
    assert predict(site, rows).json == {"predictions": [{"sum": 13.0, "label": "row 0"}]}
    assert predict(site, {"signature_name": "scalar", "inputs": 4}).json == {"outputs": 8.0}


def test_binary_values(site: Rig) -> None:
    body = {"signature_name": "texts", "instances": ["a", {"b64": "Yg=="}]}
    told = {
        "predictions": [{"upper": "A", "raw_bytes": {"b64": "YQ=="}}, {"upper": "B", "raw_bytes": {"b64": "Yg=="}}]
    }
    assert predict(site, body).json == told


def test_versions(site: Rig) -> None:
    assert predict(site, {"instances": [1]}, path=f"/v1/models/{MODEL}/versions/1:predict").status == 200
    missing = predict(site, {"instances": [1]}, path=f"/v1/models/{MODEL}/versions/2:predict")
    assert missing.status == 404
    assert "Specific(tiny, 2)" in missing.json["error"]["message"]
    bad = predict(site, {"instances": [1]}, path=f"/v1/models/{MODEL}/versions/x:predict")
    assert (bad.status, bad.json["error"]["param"]) == (400, "version")


def test_a_large_body_goes_through_a_thread(site: Rig) -> None:
    answer = predict(site, {"instances": [1.0] * 10_000, "signature_name": "serving_default"})
    assert answer.status == 200
    assert answer.json["predictions"] == [2.5] * 10_000


@pytest.mark.parametrize("count", [16_000, 20_000], ids=["as JSON", "as a message"])
def test_an_answer_over_its_bound(site: Rig, count: int) -> None:
    answer = predict(site, {"instances": [0.1] * count})
    assert (answer.status, answer.json["error"]["code"]) == (502, "backend_error")
    assert "max_response_bytes" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", "body"),
        ({"instances": [1, "x"]}, "instances[1]"),
        ({"instances": [[1.0]]}, "instances"),
        ({"signature_name": "nobody", "instances": [1]}, "signature_name"),
        ({"signature_name": "pair", "instances": [1]}, "instances"),
    ],
)
def test_bad_input_names_its_place_and_is_asked_once(site: Rig, body: Any, param: str) -> None:
    before = site.started()
    answer = predict(site, body)
    assert (answer.status, answer.json["error"]["param"]) == (400, param), answer.body
    assert site.started() == before


STATUSES = {
    "queue full": ("status=503", 503, "no_backend"),
    "too many": ("status=429", 429, "saturated"),
    "deadline": ("status=504", 504, "backend_timeout"),
    "bad input": ("status=400", 400, "invalid_request"),
    "gone": ("status=404", 404, "model_not_found"),
    "credentials": ("status=401", 502, "backend_error"),
    "failed": ("status=500", 502, "backend_error"),
}


@pytest.mark.parametrize(("sim", "status", "code"), STATUSES.values(), ids=STATUSES)
def test_what_a_status_means(site: Rig, sim: str, status: int, code: str) -> None:
    answer = predict(site, {"instances": [1]}, sim)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status in (429, 502, 503, 504))


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_another_server_is_asked(site: Rig, status: int) -> None:
    answer = predict(site, {"instances": [1]}, f"@alpha status={status}")
    assert (answer.status, answer.headers["x-headrace-backend"]) == (200, "beta")


def test_a_verdict_on_the_request_is_not_asked_elsewhere(site: Rig) -> None:
    before = site.started()["beta"]
    assert predict(site, {"instances": [1]}, "@alpha status=400").status == 400
    assert site.started()["beta"] == before


def test_the_deadline_ends_it_at_both_ends(site: Rig) -> None:
    answer = predict(site, {"instances": [1]}, "stall_headers=true")
    assert (answer.status, answer.json["error"]["code"]) == (504, "backend_timeout")


def test_a_client_that_leaves_cancels_the_call(site: Rig) -> None:
    before = site.stats()["aborted"]
    with Exchange(site.url) as client:
        client.send("POST", PREDICT, b'{"instances":[1]}', {"x-sim": "stall_headers=true"})
        until(lambda: site.stats()["open"] == 1, what="it runs")
    until(lambda: site.stats()["aborted"] == before + 1, what="the server hears of it")


def test_the_line_and_the_series_of_every_request(site: Rig) -> None:
    headers = {"x-request-id": "tf-line"}
    assert predict(site, {"instances": [1]}, **headers).headers["x-request-id"] == "tf-line"
    line = site.line("tf-line")
    assert (line["operation"], line["model"], line["backend"]) == ("predict", MODEL, "alpha")
    assert (line["outcome"], line["attempts"]) == ("finished", 1)
    assert site.metric("headrace_attempts_total", backend="alpha", outcome="done") >= 1


def test_a_model_takes_what_its_engine_takes(site: Rig) -> None:
    answer = site.post(chat())
    assert (answer.status, answer.json["error"]["param"]) == (400, "model")
    assert ":predict" in answer.json["error"]["message"]
    assert predict(site, {"instances": [1]}, path="/v1/models/nobody:predict").status == 404
    assert ask(site.url, PREDICT).status == 405


def test_what_only_chats_takes_no_predictions(tmp_path: Any) -> None:
    with rig(tmp_path, {"alpha": {}}) as site:
        answer = predict(site, {"instances": [1]})
        assert (answer.status, answer.json["error"]["param"]) == (400, "model")


def test_a_server_that_is_gone_is_a_502_and_comes_back(tmp_path: Any) -> None:
    backends = {"engine": "tfserving", "models": [MODEL]}
    with rig(tmp_path, {"alpha": {"engine": "tfserving"}}, backends=backends) as site:
        assert predict(site, {"instances": [1]}).status == 200
        site.kill("alpha")
        answer = predict(site, {"instances": [1]})
        assert answer.status in (502, 503)
        # No address in what a client reads.
        assert "127.0.0.1" not in answer.json["error"]["message"]
        site.start_simulator("alpha")
        until(lambda: predict(site, {"instances": [1]}).status == 200, what="it is used again")


def test_a_model_that_loads_is_no_candidate_yet(tmp_path: Any) -> None:
    backends = {"engine": "tfserving", "models": [MODEL]}
    simulators = {"alpha": {"engine": "tfserving", "load_ms": 60_000.0}}
    with rig(tmp_path, simulators, backends=backends, without=("edge",)) as site:

        def told() -> bool:
            rows = ask(site.url_of("control"), "/v1/backends").json["data"]
            return "not available: tiny" in rows[0]["detail"]

        until(told, what="control knows that it loads")
