"""The grant rule, the choice of a GPU, and what a pre-emption costs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_gpu.arbiter.allocator import (
    FITS,
    Gpu,
    Holding,
    Placement,
    Refusal,
    Rule,
    Victim,
    cheapest,
    pending_mb,
    place,
    room_mb,
    worst_fit,
)

RULE = Rule(0.9, 256)
BARE = Rule(0.9, 0)


def gpu(index: int = 0, total: int = 24_000, **figures) -> Gpu:
    return Gpu(f"GPU-{index}", index, total, **figures)


def test_the_cap_is_exact():
    assert BARE.cap_mb(24_000) == 21_600
    assert BARE.cap_mb(6_144) == 5_529
    assert isinstance(place([gpu()], 21_600, BARE), Placement)
    assert place([gpu()], 21_601, BARE) == Refusal(21_600, 21_601, never=True)


@pytest.mark.parametrize(
    ("reserved", "used", "pending"),
    [(4_000, 0, 4_000), (4_000, 3_000, 1_000), (4_000, 4_000, 0), (4_000, 5_000, 0)],
)
def test_a_holder_may_still_take_what_it_does_not_use(reserved, used, pending):
    assert pending_mb([Holding(reserved, used)]) == pending


def test_one_holder_beyond_its_lease_gives_no_room_to_another():
    assert pending_mb([Holding(1_000, 9_000), Holding(4_000)]) == 4_000


def test_margin_pending_and_earmarks_are_taken():
    card = gpu(used_mb=5_000, pending_mb=1_000, earmarked_mb=2_000)
    assert room_mb(card, RULE) == 21_600 - 5_000 - 1_000 - 2_000 - 256


def test_best_fit_keeps_the_large_room_free():
    cards = [gpu(0), gpu(1, used_mb=15_000), gpu(2, used_mb=18_000)]
    found = place(cards, 4_000, RULE)
    assert isinstance(found, Placement)
    assert (found.gpu.index, found.left_mb) == (1, 21_600 - 15_000 - 256 - 4_000)
    assert place(cards, 4_000, RULE, worst_fit).gpu.index == 0


def test_among_equals_the_lowest_index():
    assert place([gpu(1), gpu(0)], 1, RULE).gpu.index == 0


def test_a_refusal_says_how_much_there_is():
    assert place([gpu(used_mb=20_000), gpu(1, used_mb=21_000)], 5_000, RULE) == Refusal(1_344, 5_000)
    assert place([gpu(used_mb=23_000)], 5_000, RULE) == Refusal(0, 5_000)
    assert place([], 5_000, RULE) == Refusal(0, 5_000, never=True)


def test_a_closed_gpu_takes_nothing():
    assert place([gpu(open=False)], 5_000, RULE) == Refusal(0, 5_000, closed=True)
    assert place([gpu(open=False, used_mb=20_000)], 5_000, RULE) == Refusal(0, 5_000)


def test_low_classes_go_before_high_ones():
    victims = [Victim("a", 9, 1_000), Victim("b", 9, 1_000), Victim("c", 5, 2_000)]
    assert {victim.id for victim in cheapest(victims, 2_000)} == {"a", "b"}
    assert cheapest(victims, 4_001) == ()
    assert cheapest(victims, 0) == ()


def test_nothing_larger_goes_than_must():
    victims = [Victim("a", 9, 8_000), Victim("b", 9, 3_000), Victim("c", 9, 2_000)]
    assert [victim.id for victim in cheapest(victims, 2_500)] == ["b"]
    assert [victim.id for victim in cheapest(victims, 4_500)] == ["b", "c"]
    assert [victim.id for victim in cheapest(victims, 7_000)] == ["a"]


VICTIMS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50)), max_size=18).map(
    lambda rows: [Victim(str(place), *row) for place, row in enumerate(rows)]
)


@given(victims=VICTIMS, needed=st.integers(1, 300))
@settings(max_examples=300)
def test_victims_are_enough_and_none_is_idle(victims: list[Victim], needed: int):
    chosen = cheapest(victims, needed)
    if not chosen:
        assert sum(victim.frees_mb for victim in victims) < needed
        return
    freed = sum(victim.frees_mb for victim in chosen)
    assert freed >= needed
    assert all(freed - victim.frees_mb < needed for victim in chosen)
    worst = min(victim.priority for victim in chosen)
    assert sum(victim.frees_mb for victim in victims if victim.priority > worst) < needed


@given(
    used=st.lists(st.integers(0, 24_000), min_size=1, max_size=5),
    request=st.integers(1, 24_000),
    choice=st.sampled_from(sorted(FITS)),
)
def test_what_is_granted_stays_under_the_cap_and_what_is_refused_would_not(used, request, choice):
    cards = [gpu(index, used_mb=amount) for index, amount in enumerate(used)]
    found = place(cards, request, RULE, FITS[choice])
    rooms = [room_mb(card, RULE) for card in cards]
    if isinstance(found, Placement):
        assert room_mb(found.gpu, RULE) - request == found.left_mb >= 0
    else:
        assert all(room < request for room in rooms)


@given(needed=st.integers(1, 100))
def test_exact_below_twelve(needed: int):
    victims = [Victim(str(size), 9, size) for size in (3, 5, 9, 17, 33)]
    sums = [sum(part) for count in range(6) for part in itertools.combinations((3, 5, 9, 17, 33), count)]
    enough = [total for total in sums if total >= needed]
    assert sum(victim.frees_mb for victim in cheapest(victims, needed)) == (min(enough) if enough else 0)
