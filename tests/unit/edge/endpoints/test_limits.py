"""Tenants' limits at one edge: who is refused, with which advice, and what a request costs in the end."""

from __future__ import annotations

import pytest

from edge.endpoints.limits import Allowance, TenantLimits
from edge.protocol.request import Call, Operation, parse
from streamkit.flow.clock import ManualClock
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeySnapshot, Tenant
from streamkit.wire.openai import Usage
from streamkit.wire.state import EdgeReport, Header, Snapshot

TEAM = Tenant(name="team", tenant_class="gold", requests_per_minute=60, tokens_per_minute=60_000, max_streams=3)


def call(fields: str = "") -> Call:
    return parse(Operation.CHAT, b'{"model":"m","stream":true,"messages":[]%b}' % fields.encode())


def limits() -> TenantLimits:
    return TenantLimits(Metrics(), burst_ms=5_000, clock=ManualClock())


def snapshot(*tenants: Tenant, edges: int = 1, draining: int = 0) -> Snapshot:
    reports = [
        EdgeReport(header=Header(instance=f"e{number}", sequence=1), draining=number < draining)
        for number in range(edges)
    ]
    return Snapshot(header=Header(instance="c", sequence=1), edges=tuple(reports), keys=KeySnapshot(tenants=tenants))


def refused(some: TenantLimits, tenant: Tenant, asked: Call) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        some.begin(tenant, asked)
    assert caught.value.code is Code.OVER_QUOTA
    return caught.value


def remaining(allowance: Allowance, kind: str) -> int:
    return int(dict(allowance.headers())[f"x-ratelimit-remaining-{kind}".encode()])


def test_a_tenant_without_limits_costs_nothing_and_gets_no_headers():
    some = limits()
    free = some.begin(Tenant(name="free"), call())
    assert free is some.begin(Tenant(name="other"), call())
    assert free.headers() == []
    free.settle(None, 0)
    assert some.streams == 0


def test_answers_tell_what_is_left():
    allowance = limits().begin(TEAM, call(',"max_tokens":1000'))
    prompt = len(call(',"max_tokens":1000').body) // 4
    assert dict(allowance.headers()) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"4",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"60000",
        b"x-ratelimit-remaining-tokens": b"%d" % (5_000 - 1_000 - prompt),
        b"x-ratelimit-reset-tokens": b"1.014s",
    }


def test_a_refusal_names_the_limit_and_says_exactly_when_to_come_back():
    some = limits()
    team = Tenant(name="team", tenant_class="gold", requests_per_minute=60)
    for _ in range(5):
        some.begin(team, call()).settle(None, 0)
    error = refused(some, team, call())
    headers = dict(error.headers())
    assert "60 requests per minute" in error.message
    assert headers[b"retry-after-ms"] == b"1000"
    assert headers[b"retry-after"] == b"1"
    assert headers[b"x-headrace-reason"] == b"rejected-quota"
    assert headers[b"x-ratelimit-remaining-requests"] == b"0"


def test_streams_at_a_time_come_back_at_the_end():
    some = limits()
    made = [some.begin(TEAM, call(',"max_tokens":1')) for _ in range(3)]
    assert "3 requests at a time" in refused(some, TEAM, call()).message
    for allowance in made:
        allowance.settle(None, 1)
    assert some.streams == 0
    some.begin(TEAM, call())


PROMPT = len(call(',"max_tokens":500').body) // 4


@pytest.mark.parametrize(
    ("usage", "events", "cost"),
    [
        (Usage(prompt_tokens=100, completion_tokens=50), 60, 150),
        (Usage(prompt_tokens=9_000, completion_tokens=None), 0, 9_000),
        # Without usage, what was delivered counts, and the prompt as it was estimated.
        (None, 7, PROMPT + 7),
        (None, 0, 0),
    ],
)
def test_a_request_costs_in_the_end_what_it_used(usage, events, cost):
    some = limits()
    tokens = Tenant(name="t", tokens_per_minute=600_000)
    made = some.begin(tokens, call(',"max_tokens":500'))
    assert remaining(made, "tokens") == 50_000 - PROMPT - 500
    made.settle(usage, events)
    assert remaining(made, "tokens") == 50_000 - cost


def test_limits_are_divided_by_the_edges_that_take_work():
    some = limits()
    some.update(snapshot(TEAM, edges=5, draining=1))
    made = some.begin(TEAM, call(',"max_tokens":1'))
    assert "3 requests at a time" in refused(some, TEAM, call()).message, "no edge has less than one"
    made.settle(None, 0)
    error = refused(some, TEAM, call())
    assert int(dict(error.headers())[b"retry-after-ms"]) == 3_000, (
        "of five quarters one is gone, and a quarter comes each second"
    )


def test_new_limits_are_in_force_at_once_and_a_tenant_that_is_gone_is_forgotten():
    some = limits()
    made = some.begin(TEAM, call())
    some.update(snapshot(Tenant(name="team", max_streams=1)))
    refused(some, TEAM, call())
    some.update(snapshot())
    assert some.streams == 1
    made.settle(None, 0)
    some.update(snapshot())
    assert some.streams == 0


def test_refusals_are_counted_with_labels_that_stay_bounded():
    some = TenantLimits(metrics := Metrics(), burst_ms=5_000)
    for number in range(40):
        tenant = Tenant(name=f"t{number}", tenant_class=f"class {number}", max_streams=1)
        some.begin(tenant, call())
        refused(some, tenant, call())
    assert metrics.value(catalog.RATE_LIMITED, "class 0", "streams") == 1
    assert metrics.value(catalog.RATE_LIMITED, "other", "streams") == 8
