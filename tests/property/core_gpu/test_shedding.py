"""Noise cannot make a level flap: whatever the looks say between the marks, there is one way up and one down."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from core_gpu.arbiter.shedding import DOWN, LADDER, SHEDDING, Look, Shedder, ShedRule
from streamkit.wire.state import LEVELS

RULE = ShedRule()
#: Pauses that meet the rule's times, and pauses that do not.
_STEPS = st.sampled_from([0.5, 0.47, 0.43])
_LOADS = st.one_of(st.none(), st.floats(0, 10))
_LOOKS = st.builds(
    Look, alive=st.sampled_from([True] * 5 + [False]), load=_LOADS, over_budget=st.sampled_from([False] * 5 + [True])
)


def levels(looks: list[Look], step_s: float) -> list[int]:
    shedder = Shedder(RULE, 0.0)
    seen = []
    for place, look in enumerate(looks):
        shedder.see(look, place * step_s)
        seen.append(shedder.level)
    return seen


@given(st.lists(_LOOKS, max_size=120), _STEPS)
def test_whatever_comes_changes_are_apart_and_on_the_ladder(looks: list[Look], step_s: float) -> None:
    seen = levels(looks, step_s)
    changes = [(place * step_s, a, b) for place, (a, b) in enumerate(itertools.pairwise(seen), 1) if a != b]
    for (at, _, _), (later, before, after) in itertools.pairwise(changes):
        assert LEVELS[after] in LADDER[LEVELS[before]]
        assert after == DOWN or later - at >= RULE.residency_s


@given(
    before=st.lists(st.floats(0, 0.7), min_size=12, max_size=30),
    # An overload: noise over all loads, but never 5 s below the lower mark.
    overload=st.lists(st.lists(st.floats(0, 10), min_size=0, max_size=7), min_size=3, max_size=8),
    # A recovery: noise, but never 1 s above the upper mark.
    after=st.lists(st.lists(st.floats(0, 10), min_size=0, max_size=1), min_size=5, max_size=12),
    step_s=_STEPS,
)
def test_an_overload_is_one_way_up_and_one_way_down(
    before: list[float], overload: list[list[float]], after: list[list[float]], step_s: float
) -> None:
    high = [load for noise in overload for load in [*noise, 3.0, 3.0]]
    low = [load for noise in after for load in [*noise, 0.1, 0.1]] + [0.1] * 24
    seen = levels([Look(alive=True, load=load) for load in [*before, 3.0, 3.0, 3.0, 3.0, *high, *low]], step_s)
    path = [level for level, _ in itertools.groupby(seen)]
    top = path.index(SHEDDING)
    assert path.count(SHEDDING) == 1, path
    assert path == sorted(path[:top]) + sorted(path[top:], reverse=True), path
    assert path[-1] == 0
