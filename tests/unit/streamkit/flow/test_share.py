from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.flow.share import share


@pytest.mark.parametrize(
    ("bound", "edges", "expected"),
    [(256, 1, 256), (256, 2, 192), (100, 3, 51), (10, 4, 5), (1, 8, 1), (8, 8, 2), (8, 100, 2), (5, 2, 5)],
)
def test_shares(bound, edges, expected):
    assert share(bound, edges) == expected


@pytest.mark.parametrize(("bound", "edges"), [(0, 1), (1, 0)])
def test_there_must_be_something_to_share(bound, edges):
    with pytest.raises(ValueError, match="nothing to share"):
        share(bound, edges)


@given(st.integers(1, 100_000), st.integers(1, 1_000))
def test_all_edges_together_can_use_the_whole_bound(bound, edges):
    part = share(bound, edges)
    assert 1 <= part <= bound
    assert part * edges >= bound
    assert part <= 1.5 * -(-bound // edges) + 0.5
