from __future__ import annotations

import msgspec
import pytest

from streamkit.wire.backend import Capabilities
from streamkit.wire.errors import Code
from streamkit.wire.route import Candidate, RouteAnswer, RouteRequest, Shed


def test_equal_requests_are_one_cache_key() -> None:
    assert {RouteRequest("m"), RouteRequest("m"), RouteRequest("m", transport="json")} == {
        RouteRequest("m"),
        RouteRequest("m", transport="json"),
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":""}',
        b'{"model":"%b"}' % (b"a" * 257),
        b'{"model":"m","priority_class":0}',
        b'{"model":"m","priority_class":10}',
        b'{"model":"m","transport":"carrier pigeon"}',
        b'{"model":"m","prompt":"secret"}',
        b"{}",
    ],
)
def test_a_bad_request_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=RouteRequest)


def test_an_answer_survives_the_wire() -> None:
    candidate = Candidate(
        backend="a", engine="vllm", url="http://127.0.0.1:1", model="m", max_inflight=4, capabilities=Capabilities()
    )
    answer = RouteAnswer(decision_id="d", ttl_ms=100, candidates=(candidate,), hedge_after_ms=50)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=RouteAnswer) == answer
    shed = RouteAnswer(decision_id="d", ttl_ms=1, shed=Shed(code=Code.SATURATED, message="full", retry_after_ms=5))
    assert msgspec.json.decode(msgspec.json.encode(shed), type=RouteAnswer) == shed


def test_an_older_control_may_leave_out_what_it_does_not_know() -> None:
    row = b'{"backend":"a","engine":"vllm","url":"u","model":"m","max_inflight":1,"capabilities":{},"later":1}'
    answer = msgspec.json.decode(b'{"decision_id":"d","ttl_ms":1,"candidates":[%b]}' % row, type=RouteAnswer)
    assert answer.candidates[0].live_edges == 1
    assert answer.policy == "p2c"
