"""The lease machine at its own door: measured grants, pre-emption, fencing, start-ups, restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core_gpu.arbiter.lease import Granted, Lease, Reason, Refused
from core_gpu.arbiter.line import Waiter
from core_gpu.arbiter.startups import Begun, StartupAsk
from core_gpu.arbiter.states import LeaseState
from tests.unit.core_gpu.arbiter.rig import TERMS, Rig

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Rig] = []

    def build(*totals_mb: int, **options) -> Rig:
        made.append(Rig(tmp_path / "ledger", *totals_mb, **options))
        return made[-1]

    yield build
    made[-1].close()


def refused(found: object) -> Refused:
    assert isinstance(found, Refused), found
    return found


# — measured grants


def test_memory_without_a_lease_is_not_lent(make: Make):
    rig = make(10_000, measures=True)
    rig.measure(processes={99: 6_000})
    assert refused(rig.ask("a", 4_000)).free_mb == 3_000
    assert refused(rig.ask("a", 4_000)).holder == "processes without a lease"
    assert rig.books.accounts["GPU-0"].unleased_mb == 6_000


def test_an_old_measurement_lends_nothing(make: Make):
    rig = make(10_000, measures=True)
    rig.clock.advance(0.51)
    found = refused(rig.ask("a", 1))
    assert (found.code, found.retry_after_ms) == (Reason.STALE_INVENTORY, 250)
    rig.measure()
    assert isinstance(rig.ask("a", 1), Granted)


def test_a_release_counts_when_it_was_measured(make: Make):
    rig = make(10_000, measures=True)
    lease = rig.grant("a", 9_000, pids=frozenset({7}))
    rig.measure(processes={7: 8_000})
    assert rig.arbiter.release(lease.id)
    assert lease.state is LeaseState.RELEASING
    assert refused(rig.ask("b", 1)).code is Reason.INSUFFICIENT
    rig.measure(processes={7: 8_000})
    assert lease.state is LeaseState.RELEASED
    assert refused(rig.ask("b", 2_000)).free_mb == 1_000, "what it keeps is measured, lease or not"
    rig.measure(processes={7: 300})
    assert isinstance(rig.ask("b", 8_000), Granted)


def test_an_expired_lease_stays_reserved_until_its_processes_let_go(make: Make):
    rig = make(10_000, measures=True)
    lease = rig.grant("a", 9_000, pids=frozenset({7}), ttl_s=10)
    rig.measure(processes={7: 4_000})
    rig.wait(10)
    assert lease.state is LeaseState.RECLAIMING
    rig.measure(processes={7: 4_000})
    assert refused(rig.ask("b", 1)).code is Reason.INSUFFICIENT, "it may still grow to what it was granted"
    rig.measure(processes={7: 400})
    assert lease.state is LeaseState.RECLAIMED
    assert rig.events == ["granted a", "expire a", "back a"]


def test_past_the_deadline_the_rest_belongs_to_no_lease(make: Make):
    rig = make(10_000, measures=True)
    lease = rig.grant("a", 9_000, pids=frozenset({7}), ttl_s=10)
    rig.wait(10)
    rig.clock.advance(60)
    rig.measure(processes={7: 4_000})
    assert lease.state is LeaseState.UNLEASED
    assert rig.books.accounts["GPU-0"].unleased_mb == 4_000
    assert isinstance(rig.ask("b", 5_000), Granted)


# — the line


def test_nobody_overtakes_and_small_requests_do_not_starve_a_large_one(make: Make):
    rig = make(10_000)
    first, second = rig.grant("a", 4_500), rig.grant("b", 4_000)
    assert isinstance(rig.ask("large", 8_000, wait_s=60), Waiter)
    assert refused(rig.ask("small", 100)).reason.endswith("somebody before it in the line waits for that GPU")
    rig.arbiter.release(first.id)
    assert "large" not in rig.answers
    rig.arbiter.release(second.id)
    assert isinstance(rig.answers["large"], Granted)


def test_who_waits_for_one_gpu_does_not_block_another(make: Make):
    rig = make(10_000, 10_000)
    rig.grant("a", 9_000, gpu="0")
    rig.ask("b", 9_000, gpu="0", wait_s=60)
    assert isinstance(rig.ask("c", 9_000), Granted)


def test_ageing_orders_the_line_and_takes_nothing_away(make: Make):
    rig = make(10_000, terms=replace(TERMS, ageing_s=1.0))
    lease = rig.grant("holder", 9_000, priority=5, preemptible=True, ttl_s=1_000)
    rig.ask("old", 9_000, priority=9, wait_s=600)
    rig.wait(30)
    rig.ask("new", 9_000, priority=6, wait_s=600)
    rig.wait(1)
    assert lease.state is LeaseState.GRANTED
    rig.arbiter.release(lease.id)
    assert isinstance(rig.answers["old"], Granted)
    assert "new" not in rig.answers


# — pre-emption


def test_the_cheapest_holders_are_noticed_and_the_memory_is_the_preemptors(make: Make):
    rig = make(10_000)
    keeps = rig.grant("keeps", 3_000, priority=3, preemptible=True)
    goes = rig.grant("goes", 3_000, priority=8, preemptible=True)
    rig.grant("fixed", 3_000, priority=9)
    rig.ask("urgent", 3_000, priority=2, wait_s=60)
    assert (goes.state, keeps.state) == (LeaseState.NOTICED, LeaseState.GRANTED)
    rig.arbiter.release(goes.id)
    assert isinstance(rig.answers["urgent"], Granted)


def test_freed_memory_is_earmarked_even_against_a_higher_priority(make: Make):
    rig = make(10_000)
    first = rig.grant("first", 4_500, priority=9, preemptible=True)
    second = rig.grant("second", 4_500, priority=9, preemptible=True)
    rig.ask("urgent", 9_000, priority=2, wait_s=60)
    assert first.state is second.state is LeaseState.NOTICED
    rig.arbiter.release(first.id)
    assert refused(rig.ask("thief", 4_000, priority=1)).code is Reason.INSUFFICIENT
    rig.arbiter.release(second.id)
    assert isinstance(rig.answers["urgent"], Granted)


def test_a_lease_is_left_alone_for_its_minimum_time(make: Make):
    rig = make(10_000, terms=replace(TERMS, min_residency_s=10))
    lease = rig.grant("low", 9_000, priority=9, preemptible=True, ttl_s=600)
    rig.ask("urgent", 9_000, priority=1, wait_s=60)
    rig.wait(9)
    assert lease.state is LeaseState.GRANTED
    rig.wait(1)
    assert lease.state is LeaseState.NOTICED


def test_a_need_that_goes_away_is_withdrawn(make: Make):
    rig = make(10_000)
    lease = rig.grant("low", 9_000, priority=9, preemptible=True, ttl_s=600)
    rig.ask("urgent", 9_000, priority=1, wait_s=2)
    assert lease.state is LeaseState.NOTICED
    rig.wait(2)
    assert lease.state is LeaseState.GRANTED
    assert rig.answers["urgent"].code is Reason.TIMEOUT
    assert rig.events == ["granted low", "notice low", "withdraw low"]
    rig.wait(10)
    assert lease.state is LeaseState.GRANTED


def test_notice_grace_room_fence(make: Make):
    rig = make(10_000, measures=True)
    asked: list[tuple[str, int]] = []
    rig.arbiter.line.make_room = lambda lease, mb: not asked.append((lease.client, mb))
    lease = rig.grant("low", 9_000, priority=9, preemptible=True, ttl_s=600, pids=frozenset({7}))
    rig.measure(processes={7: 9_000})
    rig.ask("urgent", 8_000, priority=1, wait_s=600)
    rig.wait(5)
    assert (asked, lease.state) == ([("low", 9_000)], LeaseState.NOTICED)
    rig.wait(10)
    assert lease.state is LeaseState.FENCED
    found = refused(rig.arbiter.renew(lease.id))
    assert found.code is Reason.FENCED
    rig.measure(processes={7: 9_000})
    assert "urgent" not in rig.answers, "its memory is not back"
    rig.measure(processes={7: 200})
    assert isinstance(rig.answers["urgent"], Granted)
    assert rig.events[-2:] == ["back low", "granted urgent"]


def test_an_unmeasured_fence_is_never_written_off_while_its_processes_live(make: Make):
    rig = make(10_000)
    rig.living.add(7)
    lease = rig.grant("low", 9_000, priority=9, preemptible=True, ttl_s=600, pids=frozenset({7}))
    rig.ask("urgent", 8_000, priority=1, wait_s=600)
    rig.wait(5)
    rig.wait(300)
    assert lease.state is LeaseState.FENCED
    rig.living.clear()
    rig.wait(0.1)
    assert isinstance(rig.answers["urgent"], Granted)


# — start-ups


def begin(
    rig: Rig, client: str, *leases: Lease, wait_s: float = 0, lasts_s: float = 60
) -> Begun | Refused | StartupAsk:
    return rig.arbiter.begin_startup(
        client, tuple(lease.id for lease in leases), lasts_s, wait_s,
        lambda answer: rig.answers.update({client: answer}),
    )  # fmt: skip


def test_a_barrier_waits_until_memory_has_come_back(make: Make):
    rig = make(10_000, measures=True)
    other, own = rig.grant("other", 2_000), rig.grant("vllm", 5_000)
    rig.arbiter.release(other.id)
    assert refused(begin(rig, "vllm", own)).code is Reason.RECLAIMING
    begin(rig, "later", own, wait_s=60)
    rig.measure()
    assert isinstance(rig.answers["later"], Begun)


def test_a_barrier_freezes_grants_notices_and_make_room_on_its_gpu(make: Make):
    rig = make(10_000, 10_000)
    own = rig.grant("vllm", 1_000, gpu="0", ttl_s=600)
    low = rig.grant("low", 8_000, gpu="0", priority=9, preemptible=True, ttl_s=600)
    found = begin(rig, "vllm", own)
    assert isinstance(found, Begun)
    rig.ask("urgent", 8_000, gpu="0", priority=1, wait_s=600)
    rig.wait(20)
    assert low.state is LeaseState.GRANTED
    assert refused(rig.ask("x", 10, gpu="0")).code in (Reason.FROZEN, Reason.INSUFFICIENT)
    assert isinstance(rig.ask("y", 9_000, gpu="1"), Granted)
    assert rig.arbiter.end_startup(found.id, healthy=True)
    assert low.state is LeaseState.NOTICED


def test_a_barrier_ends_with_its_deadline_or_its_leases(make: Make):
    rig = make(10_000)
    own = rig.grant("vllm", 1_000, ttl_s=600)
    begin(rig, "vllm", own, lasts_s=5)
    rig.wait(5)
    assert not rig.arbiter.startups.holder("GPU-0")
    begin(rig, "vllm", own)
    rig.arbiter.release(own.id)
    rig.wait(0.1)
    assert not rig.arbiter.startups.holder("GPU-0")


# — restarts


def test_a_restart_keeps_leases_fences_and_barriers(make: Make):
    rig = make(10_000)
    own = rig.grant("vllm", 1_000, ttl_s=600)
    noticed = rig.grant("noticed", 4_000, priority=9, preemptible=True, ttl_s=600)
    fenced = rig.grant("fenced", 3_900, priority=9, preemptible=True, ttl_s=600)
    gone = rig.grant("gone", 10, ttl_s=600)
    rig.arbiter.release(gone.id)
    rig.books.notice(noticed, "", rig.clock())
    rig.books.notice(fenced, "", rig.clock())
    rig.books.fence(fenced, rig.clock())
    begin(rig, "vllm", own, lasts_s=100)
    rig.close()
    after = make(10_000, clock=rig.clock)
    states = {lease.client: lease.state for lease in after.books.leases.values()}
    assert states == {"vllm": LeaseState.GRANTED, "noticed": LeaseState.GRANTED, "fenced": LeaseState.FENCED}
    assert after.books.leases[noticed.id].reserved_mb == 4_000
    assert after.arbiter.release(gone.id), "issued in the life before"
    assert refused(after.arbiter.renew(fenced.id)).code is Reason.FENCED
    assert after.books.accounts["GPU-0"].reserved_mb == 8_900


def test_expiry_goes_on_while_nobody_is_there_but_leaves_time_to_renew(make: Make):
    rig = make(10_000)
    short, long = rig.grant("short", 1_000, ttl_s=10), rig.grant("long", 1_000, ttl_s=100)
    rig.close()
    rig.clock.advance(60)
    rig.wall -= 3_600
    after = make(10_000, clock=rig.clock)
    left = {lease.client: lease.expires_s - rig.clock() for lease in after.books.leases.values()}
    assert left == {"short": TERMS.restart_grace_s, "long": 40}
    after.wait(5)
    assert short.id not in after.books.leases
    assert long.id in after.books.leases
