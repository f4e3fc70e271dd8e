"""One GPU's account against the sums it must equal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_gpu.arbiter.inventory import Device, Measured
from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.memory import Account

DEVICE = Device("GPU-0", 0, "scripted", 24_000)


def lease(name: str, mb: int, *pids: int, loaded: bool = False) -> Lease:
    return Lease(name, name, "", "GPU-0", mb, 2, 30, 30, 0, pids=frozenset(pids), loaded=loaded)


@pytest.fixture
def account() -> Account:
    return Account(DEVICE, measures=True)


def test_what_a_process_holds_is_no_longer_pending(account: Account):
    account.add(lease("a", 4_000, 7))
    account.measured(1, Measured(3_500, {7: 3_000}))
    assert (account.used_mb, account.pending_mb, account.unleased_mb) == (3_500, 1_000, 500)
    assert account.used_by(account.leases["a"]) == (3_000, True)


def test_a_lease_granted_since_the_measurement_counts_whole(account: Account):
    account.add(lease("a", 4_000, 7))
    account.measured(1, Measured(6_000, {7: 6_000}))
    account.add(lease("b", 4_000, 7))
    assert account.pending_mb == 4_000, "what the process held before is not the new lease's"
    account.measured(2, Measured(8_000, {7: 8_000}))
    assert account.pending_mb == 0


def test_without_figures_the_holders_word_counts(account: Account):
    anonymous, windows = lease("a", 4_000), lease("b", 2_000, 9)
    account.add(anonymous)
    account.add(windows)
    account.measured(1, Measured(6_000, {9: None, 10: None}))
    assert account.pending_mb == 6_000
    account.remove(windows)
    account.add(lease("b", 2_000, 9, loaded=True))
    assert account.pending_mb == 4_000
    assert account.used_by(account.leases["b"]) == (2_000, False)


def test_a_process_that_was_measured_and_is_gone_uses_nothing(account: Account):
    account.add(lease("a", 4_000, 7, loaded=True))
    account.measured(1, Measured(4_000, {7: 4_000}))
    assert account.pending_mb == 0
    account.measured(2, Measured(0, {}))
    assert account.pending_mb == 4_000


def test_strangers_are_unleased(account: Account):
    account.measured(1, Measured(5_000, {99: 5_000}))
    assert account.unleased_mb == 5_000
    account.add(lease("a", 1_000, 7))
    account.measured(2, Measured(8_000, {99: 5_000, 7: 3_000}))
    assert account.unleased_mb == 7_000, "beyond its lease a holder is a stranger"


def test_who_holds_after_the_end(account: Account):
    ours = lease("a", 4_000, 7, 8)
    account.add(ours)
    for processes, holds in (
        ({}, False),
        ({7: 300}, False),
        ({7: 900}, True),
        ({8: None}, True),
        ({9: 9_000}, False),
    ):
        account.measured(1, Measured(0, processes))
        assert account.holds(ours, 512) is holds


PIDS = st.frozensets(st.integers(1, 4), max_size=2)
LEASES = st.lists(st.tuples(st.integers(1, 500), PIDS, st.booleans()), max_size=8)
PROCESSES = st.dictionaries(st.integers(1, 5), st.one_of(st.none(), st.integers(0, 900)), max_size=5)


@given(first=LEASES, processes=PROCESSES, second=LEASES, data=st.data())
@settings(max_examples=200)
def test_the_sums_are_those_of_the_rule_and_everything_comes_back(first, processes, second, data):
    account = Account(DEVICE, measures=True)
    leases = [lease(f"a{place}", mb, *pids, loaded=loaded) for place, (mb, pids, loaded) in enumerate(first)]
    for each in leases:
        account.add(each)
    account.measured(1, Measured(1_000, processes))
    held = sum(used or 0 for used in processes.values())
    reserved = sum(each.reserved_mb for each in leases)
    assert account.reserved_mb == reserved
    if not any(each.loaded for each in leases):
        assert reserved - held <= account.pending_mb <= reserved
    named = {pid for each in leases for pid in each.pids}
    if named and all(processes.get(pid) for pid in named) and all(each.pids for each in leases):
        total = sum(processes[pid] for pid in named)
        assert account.pending_mb >= max(0, reserved - total), "never less than the rule"
    before = account.pending_mb
    late = [lease(f"b{place}", mb, *pids) for place, (mb, pids, _) in enumerate(second)]
    for each in late:
        account.add(each)
    assert account.pending_mb == before + sum(each.reserved_mb for each in late)
    everybody = data.draw(st.permutations([*leases, *late]))
    for each in everybody:
        account.remove(each)
    assert (account.reserved_mb, account.pending_mb, account.leased_used_mb) == (0, 0, 0)
    assert not account.leases
    assert account.largest() is None
