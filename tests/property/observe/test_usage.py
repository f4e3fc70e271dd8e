"""GPU time is shared out whole, whatever it is told by: nobody's second is left out, and none comes twice."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observe.spans import HOUR_MS
from observe.tally import Hourly, LeaseHour
from observe.usage import BY, added_up

_NAMES = st.sampled_from("abc")
_HOURS = st.integers(0, 3)
_USED = st.builds(
    Hourly, _HOURS, _NAMES, _NAMES, _NAMES, _NAMES, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9),
    st.integers(0, 9 * HOUR_MS),
)  # fmt: skip
_LEASED = st.builds(LeaseHour, _HOURS, _NAMES, st.integers(0, 4 * HOUR_MS))
#: A row is rounded to a millisecond.
_ROUNDED_S = 0.001


@given(
    st.lists(_USED, max_size=12, unique_by=lambda one: one[:5]),
    st.lists(_LEASED, max_size=8, unique_by=lambda one: one[:2]),
)
def test_every_way_of_adding_up_has_the_same_sum(hours: list[Hourly], leased: list[LeaseHour]):
    gpu_s = sum(one.gpu_ms for one in leased) / 1000
    for length in range(1, len(BY) + 1):
        for by in combinations(BY, length):
            rows = added_up(hours, leased, by)
            room = _ROUNDED_S * (len(rows) + 1)
            assert sum(row.gpu_s or 0.0 for row in rows) == pytest.approx(gpu_s, abs=room), by
            assert sum(row.slot_s for row in rows) == pytest.approx(
                sum(one.slot_ms for one in hours) / 1000, abs=room
            )
            assert sum(row.streams for row in rows) == sum(one.streams for one in hours)
            assert sum(row.completion_tokens for row in rows) == sum(one.completion for one in hours)
            places = [tuple(getattr(row, name) for name in by) for row in rows]
            assert len(set(places)) == len(places)


@given(st.lists(_USED, min_size=1, max_size=12, unique_by=lambda one: one[:5]), st.integers(1, HOUR_MS))
def test_within_an_hour_gpu_time_is_as_slot_time(hours: list[Hourly], gpu_ms: int):
    hours = [one._replace(hour=1, backend="a") for one in hours]
    total = sum(one.slot_ms for one in hours)
    for row in added_up(hours, [LeaseHour(1, "a", gpu_ms)], ("tenant",)):
        share = row.slot_s * 1000 / total if total else float(row.tenant == "(idle)")
        assert row.gpu_s == pytest.approx(gpu_ms / 1000 * share, abs=2 * _ROUNDED_S)
