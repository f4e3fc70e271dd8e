"""How one bound is shared by many edges that do not ask each other."""

from __future__ import annotations

__all__ = ["share"]


def share(bound: int, live_edges: int) -> int:
    """Return how much of `bound` one of `live_edges` edges may use: ceil(bound / live_edges) x 1.5 (design §5).

    Edges are never equally loaded, so each may go half beyond its even part; the engine's own queue cap is the hard
    stop. Half a request is rounded up, nobody gets less than 1, and nobody more than the whole bound.

    Raises:
        ValueError: `bound` or `live_edges` is less than 1.
    """
    if bound < 1 or live_edges < 1:
        raise ValueError(f"nothing to share: bound={bound} live_edges={live_edges}")
    even = -(-bound // live_edges)
    return min(bound, (3 * even + 1) // 2)
