"""The waste gate: the real allocator passes, bad ones do not, and the page says what was found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from core_gpu.arbiter import allocator
from core_gpu.arbiter.allocator import Placement, Refusal, Rule
from core_gpu.waste import drive as driver
from core_gpu.waste.drive import drive
from core_gpu.waste.gate import LIMITS, cases, failures
from core_gpu.waste.mixes import Size, size, traces
from core_gpu.waste.page import CHART, PAGE, chart, page, results

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def found():
    return results()


def test_the_arbiters_allocator_wastes_less_than_ten_percent(found):
    assert failures(found["best"]) == []
    assert {case.gpus for case in found["best"]} == {1, 2, 4, 8}


def test_the_page_and_its_chart_say_what_was_found(found):
    """Written anew by `python -m core_gpu.waste`."""
    assert (ROOT / PAGE).read_text() == page(found)
    assert (ROOT / CHART).read_text() == chart(found)


def timid(gpus, request_mb, rule, choice=allocator.best_fit):
    """Grant only where a quarter of the card stays free."""
    found = allocator.place(gpus, request_mb, rule, choice)
    if isinstance(found, Placement) and found.left_mb < found.gpu.total_mb // 4:
        return Refusal(found.left_mb, request_mb)
    return found


def doubling(gpus, request_mb, rule, choice=allocator.best_fit):
    """Round every request up to a power of two."""
    return allocator.place(gpus, 1 << (request_mb - 1).bit_length(), rule, choice)


@pytest.mark.parametrize("bad", [timid, doubling], ids=lambda bad: bad.__name__)
def test_a_bad_allocator_fails(bad):
    broken = failures(cases(place=bad, seeds=(1,)))
    assert any("stranded" in line for line in broken)
    assert any("total" in line for line in broken)


def test_careless_estimates_fail(monkeypatch):
    """As if every lease asked for a quarter more than it needs."""

    def careless(request, mix, chance):
        reserved, used = size(request, mix, chance)
        return Size(reserved, used * 3 // 4)

    monkeypatch.setattr(driver, "size", careless)
    assert any("estimate_error" in line for line in failures(cases(seeds=(1,))))


def test_an_allocator_that_ignores_the_cap_fails():
    def greedy(gpus, request_mb, rule, choice=allocator.best_fit):
        return allocator.place(gpus, request_mb, Rule(cap_share=1.0, margin_mb=0), choice)

    assert any("more than the cap" in line for line in failures(cases(place=greedy, seeds=(1,))))


def test_a_trace_is_the_same_for_every_allocator_and_differs_by_seed():
    mix = traces().mixes["workstation"]
    assert drive(mix, 2, 7, grants=60) == drive(mix, 2, 7, grants=60)
    assert drive(mix, 2, 7, grants=60) != drive(mix, 2, 8, grants=60)


def test_the_parts_and_the_use_are_the_whole():
    for mix in traces().mixes.values():
        waste = drive(mix, 1, 3, grants=60)
        assert waste.total + waste.kept + waste.used == pytest.approx(1)


def test_every_figure_of_the_file_has_a_source():
    for entry in (*traces().contexts, *traces().shares):
        assert len(entry.source) > 10 or entry.source == "between the two"
    for share in traces().shares:
        assert 0 < share.low <= share.high <= 1


def test_reservations_come_from_the_planner():
    mix = traces().mixes["workstation"]
    for request in mix.requests:
        reserved, used = size(request, mix, random.Random(1))
        assert 0 < used <= reserved + 600
    assert LIMITS["total"] == 0.10
