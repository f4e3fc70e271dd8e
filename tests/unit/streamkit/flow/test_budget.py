from __future__ import annotations

import pytest

from streamkit.flow.budget import Budget


def test_the_limit_is_on_the_sum_of_all_accounts():
    budget = Budget(100)
    streams, rings = budget.account("streams"), budget.account("rings")
    assert streams.reserve(60)
    assert not rings.reserve(41)
    assert rings.reserve(40)
    assert (budget.used_bytes, budget.free_bytes, budget.refused) == (100, 0, 1)
    assert budget.accounts == {"streams": 60, "rings": 40}
    streams.release(60)
    assert (budget.used_bytes, budget.high_water) == (40, 100)


def test_an_account_is_found_by_its_name():
    budget = Budget(10)
    assert budget.account("streams") is budget.account("streams")
    assert budget.reserve(3)
    assert budget.account("other").used_bytes == 3
    budget.release(3)
    assert budget.used_bytes == 0


def test_a_double_release_is_an_error_even_while_others_hold():
    budget = Budget(100)
    assert budget.account("rings").reserve(50)
    streams = budget.account("streams")
    assert streams.reserve(10)
    streams.release(10)
    with pytest.raises(ValueError, match="holds 0 bytes"):
        streams.release(10)
    assert budget.used_bytes == 50


@pytest.mark.parametrize("call", ["reserve", "release"])
def test_sizes_are_not_negative(call):
    with pytest.raises(ValueError):
        getattr(Budget(10).account("a"), call)(-1)
    with pytest.raises(ValueError, match="negative"):
        Budget(-1)
