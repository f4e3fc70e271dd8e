from __future__ import annotations

import pytest

from loadtest.relay.stats import Spread, differences, percentile, quantiles, ratios, slope, spread


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (0.001, 1), (1.0, 100), (0.995, 100)]
)
def test_percentile_is_the_nearest_rank(share, expected):
    assert percentile(list(range(1, 101)), share) == expected


def test_percentile_of_one_value_is_that_value():
    assert percentile([7], 0.5) == percentile([7], 0.999) == 7


def test_percentile_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_quantiles_sort_and_divide():
    found = quantiles([3000, 1000, 2000], 1000)
    assert found is not None
    assert (found.count, found.p50, found.p99, found.max) == (3, 2.0, 3.0, 3.0)


def test_quantiles_of_nothing_are_none():
    assert quantiles([]) is None


def test_spread_is_the_median_with_its_extremes():
    assert spread([3.0, 1.0, 9.0, 2.0]) == Spread(2.5, 1.0, 9.0, 4)
    assert spread([]) is None


def test_the_slope_is_the_least_squares_line():
    assert slope([(0.0, 100.0), (1.0, 110.0), (2.0, 120.0)]) == pytest.approx(10.0)
    assert slope(list(enumerate([100.0, 130.0, 110.0, 140.0]))) == pytest.approx(10.0)
    assert slope([(0.0, 5.0), (1.0, 5.0)]) == slope([(0.0, 5.0)]) == slope([]) == 0.0


def test_ratios_pair_the_runs_of_a_round():
    # Round 2 of theirs is void and round 4 of ours: neither may be paired with another round's.
    assert ratios({1: 2.0, 2: 4.0, 3: 9.0}, {1: 1.0, 3: 3.0, 4: 5.0}) == [2.0, 3.0]


def test_a_ratio_to_zero_is_left_out():
    assert ratios({1: 2.0}, {1: 0.0}) == []


def test_differences_pair_the_runs_of_a_round():
    assert differences({1: 2.0, 2: 4.0}, {2: 1.0, 3: 0.0}) == [3.0]
