"""Every case can fail: a gateway with exactly its fault turns exactly that case red."""

from __future__ import annotations

import concurrent.futures
import multiprocessing

import pytest

from loadtest.conform.case import CASES
from loadtest.conform.faulty.faults import FAULTS
from loadtest.conform.suite import all_cases
from tests.support.conform import verdicts

_ORDER = ["pass", "deviation", "fail"]
#: Faults that a client can live with: they are told, and fail nobody.
_TOLERATED = {"done-after-error"}


def test_every_case_has_its_fault_and_says_where_it_comes_from():
    assert {case.id for case in all_cases()} == FAULTS.keys()
    assert len(CASES) >= 40
    for case in CASES.values():
        assert case.requires.endswith("."), case.id
        assert case.threads, case.id


@pytest.fixture(scope="module")
def without_fault():
    return verdicts()


def test_without_a_fault_every_case_passes(without_fault):
    bad = {name: result.evidence for name, result in without_fault.items() if result.verdict != "pass"}
    assert bad == {}


def _judge(case_id, result):
    assert result.verdict == ("deviation" if case_id in _TOLERATED else "fail"), result.evidence


@pytest.mark.parametrize(
    "case_id",
    [pytest.param(one, marks=[pytest.mark.slow] if number % 12 else []) for number, one in enumerate(FAULTS)],
)
def test_a_fault_turns_its_case_red(case_id):
    """A few in the fast suite, all in the slow one."""
    _judge(case_id, verdicts([case_id], [case_id])[case_id])


def _run(case_id):
    return case_id, verdicts([case_id])


@pytest.fixture(scope="module")
def with_each_fault():
    """All cases against all faulty gateways; a gateway waits for most of its time, so several share a core."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(10, mp_context=context) as pool:
        return dict(pool.map(_run, FAULTS))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case_id", FAULTS)
def test_a_fault_turns_no_other_case_red(case_id, with_each_fault):
    results = dict(with_each_fault[case_id])
    _judge(case_id, results.pop(case_id))
    worse = {name: result.evidence for name, result in results.items() if result.verdict != "pass"}
    assert worse == {}
