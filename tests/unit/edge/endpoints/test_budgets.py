"""Budgets of a day and a month at one edge: who is refused, until when, and what counts while nobody counts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edge.endpoints.access import Caller
from edge.endpoints.budgets import Budgets
from edge.endpoints.probes import pin_of
from edge.endpoints.sheds import Sheds
from edge.protocol.request import Operation, parse
from streamkit.flow.clock import ManualClock
from streamkit.ops.events import EventFeed
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.keys import KeyRecord, KeySnapshot, Tenant
from streamkit.wire.state import Header, Snapshot
from streamkit.wire.telemetry import Spent, SpentState, day_of, month_of
from streamkit.wire.tokens import Claims

#: The last evening of a month.
EVENING = datetime(2026, 11, 30, 22, 30, tzinfo=UTC)
ACME = Tenant(name="acme", tokens_per_day=100, tokens_per_month=1_000)
KEY = KeyRecord(id="k-1", sha256="0", tenant="plain", tokens_per_day=10)


def snapshot(*spent: Spent, at: datetime = EVENING, told: bool = True) -> Snapshot:
    state = SpentState(day=day_of(at), month=month_of(at), spent=spent)
    keys = KeySnapshot(keys=(KEY,), tenants=(ACME,))
    return Snapshot(header=Header(instance="c", sequence=1), keys=keys, spent=state if told else None)


def budgets(*spent: Spent, now: datetime = EVENING, **rest: object) -> Budgets:
    ours = Budgets(now=now.timestamp)
    ours.update(snapshot(*spent, **rest))  # type: ignore[arg-type]
    return ours


def caller(tenant: Tenant = ACME, key_id: str = "k-9") -> Caller:
    return Caller(tenant, key_id, 5)


def refused(ours: Budgets, who: Caller) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        ours.check(who)
    return caught.value


def test_a_day_s_budget_is_refused_until_midnight():
    error = refused(budgets(Spent(payer="tenant:acme", day=100, month=100)), caller())
    assert (error.code, error.wire.status, error.wire.type) == (Code.INSUFFICIENT_QUOTA, 429, "insufficient_quota")
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    assert headers["x-headrace-budget-reset"] == "2026-12-01T00:00:00Z"
    assert headers["retry-after"] == str(90 * 60 + 1)
    assert headers["x-should-retry"] == "false"
    assert "100 tokens per day" in error.message
    budgets(Spent(payer="tenant:acme", day=99, month=99)).check(caller())


def test_a_month_s_budget_is_refused_until_the_next_one():
    at = datetime(2026, 12, 3, tzinfo=UTC)
    ours = Budgets(now=at.timestamp)
    ours.update(snapshot(Spent(payer="tenant:acme", day=0, month=1_000), at=at))
    headers = dict(refused(ours, caller()).headers())
    assert headers[b"x-headrace-budget-reset"] == b"2027-01-01T00:00:00Z"


def test_a_key_has_its_own_budget_and_so_have_its_users():
    ours = budgets(Spent(payer="key:k-1", day=10, month=10))
    plain = Tenant(name="plain")
    for key_id in ("k-1", "k-1/ann"):
        assert "This key has used 10 tokens" in refused(ours, caller(plain, key_id)).message
    ours.check(caller(plain, "k-2"))
    ours.check(caller(plain, ""))


def test_while_nobody_counts_the_last_totals_stand_and_a_new_day_begins_all_the_same():
    ours = budgets(Spent(payer="tenant:acme", day=100, month=500))
    # A control that was started anew has not heard any totals.
    ours.update(snapshot(told=False))
    refused(ours, caller())
    tomorrow = Budgets(now=datetime(2026, 11, 30, 22, 30, tzinfo=UTC).timestamp)
    tomorrow.update(snapshot(Spent(payer="tenant:acme", day=100, month=500), at=datetime(2026, 11, 29, tzinfo=UTC)))
    tomorrow.check(caller())
    next_month = Budgets(now=datetime(2026, 12, 1, 0, 1, tzinfo=UTC).timestamp)
    next_month.update(snapshot(Spent(payer="tenant:acme", day=100, month=5_000)))
    next_month.check(caller())


def test_before_anybody_counted_nobody_is_refused():
    Budgets().check(caller())
    budgets(told=False).check(caller())


def test_a_probe_needs_an_operator():
    operator = Caller(Tenant(name="ops", operator=True), "k-1", 5)
    assert pin_of("", caller()) == ""
    assert pin_of("gpu-0", operator) == "gpu-0"
    assert pin_of("gpu-0", Caller(Tenant(name="default"), "", 5)) == "gpu-0", "where no keys are demanded"
    token = Caller(Tenant(name="ops", operator=True), "k-1", 5, Claims(key="k-1", expires_at=0))
    for who, text, code in (
        (caller(), "gpu-0", Code.FORBIDDEN),
        (token, "gpu-0", Code.FORBIDDEN),
        (operator, "Not A Name", Code.INVALID_REQUEST),
    ):
        with pytest.raises(HeadraceError) as caught:
            pin_of(text, who)
        assert (caught.value.code, caught.value.param) == (code, "X-Headrace-Probe")


class Asked:
    request_id = "r"
    transport = "sse"
    caller = caller()


def test_a_flood_of_refusals_is_a_sample_that_says_how_many_were_left_out():
    clock, feed = ManualClock(), EventFeed()
    sheds = Sheds(clock)
    call = parse(Operation.CHAT, b'{"model":"m","messages":[]}')
    with feed.subscribe() as told:
        for _ in range(150):
            sheds.tell(feed, HeadraceError(Code.SATURATED, "full"), call, Asked())  # type: ignore[arg-type]
        clock.advance(1.0)
        sheds.tell(feed, HeadraceError(Code.NO_BACKEND, "none"), call, Asked())  # type: ignore[arg-type]
        sheds.tell(feed, HeadraceError(Code.INVALID_REQUEST, "bad"), call, Asked())  # type: ignore[arg-type]
        events = list(told._waiting)
    assert len(events) == 101
    assert b'"left_out":50' in events[-1].data
    assert b'"code":"no_backend"' in events[-1].data
