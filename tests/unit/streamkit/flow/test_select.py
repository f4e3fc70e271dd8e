from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.flow.select import by_region, p2c, rendezvous


@dataclass(frozen=True)
class Spot:
    name: str
    load: float = 0
    weight: float = 1
    region: str = ""


def ordered(spots: list[Spot], seed: int = 0) -> list[Spot]:
    return p2c(spots, lambda s: s.load, lambda s: s.weight, random.Random(seed))


def hashed(key: str, spots: list[Spot]) -> list[Spot]:
    return rendezvous(key, spots, lambda s: s.name, lambda s: s.weight)


SPOTS = st.lists(
    st.builds(Spot, st.text(min_size=1, max_size=6), st.floats(0, 100), st.sampled_from([0, 0.5, 1, 4])),
    max_size=8,
    unique_by=lambda s: s.name,
)


@given(SPOTS, st.integers(0, 1_000))
def test_p2c_orders_all_that_take_work(spots, seed):
    order = ordered(spots, seed)
    assert sorted(order, key=lambda s: s.name) == sorted((s for s in spots if s.weight), key=lambda s: s.name)


def test_of_two_the_less_loaded_always_wins():
    busy, idle = Spot("busy", 10), Spot("idle", 1)
    assert all(ordered([busy, idle], seed) == [idle, busy] for seed in range(50))


def test_load_is_weighed_by_what_a_candidate_can_take():
    big, small = Spot("big", 10, weight=100), Spot("small", 1, weight=2)
    assert all(ordered([small, big], seed)[0] is big for seed in range(50))


def test_the_most_loaded_of_many_is_never_first():
    spots = [Spot(f"s{n}", load=n) for n in range(6)]
    firsts = Counter(ordered(spots, seed)[0].name for seed in range(600))
    assert firsts["s5"] == 0
    assert set(firsts) == {"s0", "s1", "s2", "s3", "s4"}
    assert firsts["s0"] > firsts["s4"]


def test_equal_candidates_share_evenly():
    spots = [Spot(f"s{n}") for n in range(4)]
    firsts = Counter(ordered(spots, seed)[0].name for seed in range(4_000))
    assert all(800 < count < 1_200 for count in firsts.values()), firsts


@given(st.text(), SPOTS, st.randoms())
def test_rendezvous_does_not_depend_on_the_order(key, spots, rng):
    order = hashed(key, spots)
    shuffled = spots[:]
    rng.shuffle(shuffled)
    assert hashed(key, shuffled) == order
    assert {s.name for s in order} == {s.name for s in spots if s.weight}


@given(st.text(), SPOTS, st.data())
def test_who_leaves_moves_nobody_else(key, spots, data):
    order = hashed(key, spots)
    if not order:
        return
    gone = data.draw(st.sampled_from(order))
    assert hashed(key, [s for s in spots if s is not gone]) == [s for s in order if s is not gone]


def test_keys_follow_weights():
    spots = [Spot("one"), Spot("three", weight=3)]
    firsts = Counter(hashed(f"session {n}", spots)[0].name for n in range(4_000))
    assert firsts["three"] / firsts["one"] == pytest.approx(3, rel=0.15)


def test_text_and_bytes_are_one_key():
    spots = [Spot(f"s{n}") for n in range(5)]
    assert hashed("kéy", spots) == rendezvous("kéy".encode(), spots, lambda s: s.name, lambda s: s.weight)


def test_the_own_region_is_first_and_orders_stay():
    spots = [Spot("a", region="eu"), Spot("b", region="us"), Spot("c", region="eu"), Spot("d")]
    assert [s.name for s in by_region(spots, "eu", lambda s: s.region)] == ["a", "c", "b", "d"]
    assert by_region(spots, "", lambda s: s.region) == spots
    assert by_region(spots, "asia", lambda s: s.region) == spots
