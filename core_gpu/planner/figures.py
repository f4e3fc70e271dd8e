"""One figure of the plan: what it comes to, by which arithmetic, and whether what was claimed follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Figure", "Verdict", "concurrent_users", "figure"]

Verdict = Literal["follows", "rounded", "does not follow"]

#: Nearer than this is rounding that nobody needs to hear of; nearer than the second is rounding that adds up.
_SAME: Final = 0.011
_ROUNDED: Final = 0.035


@dataclass(frozen=True, slots=True)
class Figure:
    """One line."""

    table: str
    name: str
    #: With its numbers put in.
    arithmetic: str
    value: float
    unit: str
    #: As the plan has it; None = it has no such figure, and should.
    claimed: float | None
    verdict: Verdict | None
    #: Why it does not follow, or what the figure leaves out.
    note: str


def figure(
    table: str,
    name: str,
    arithmetic: str,
    value: float,
    unit: str,
    claimed: float | None = None,
    *,
    note: str = "",
    verdict: Verdict | None = None,
) -> Figure:
    """Return a figure, with the verdict that its distance from the claim gives it, or that it is given."""
    if claimed is not None and verdict is None:
        off = abs(value - claimed) / max(abs(value), 1e-9)
        verdict = "follows" if off <= _SAME else "rounded" if off <= _ROUNDED else "does not follow"
    return Figure(table, name, arithmetic, value, unit, claimed, verdict, note)


def concurrent_users(streams: float, duty: float, overload: float) -> int:
    """Return how many users `streams` serve so that more of them speak at once only `overload` of the time.

    Users speak independently, each with probability `duty`; the number of speakers is binomial, taken as normal.
    """
    quantile = _normal_quantile(1 - overload)
    # N x duty + z x sqrt(N x duty x (1 - duty)) = streams, solved for sqrt(N).
    spread = quantile * math.sqrt(duty * (1 - duty))
    root = (-spread + math.sqrt(spread * spread + 4 * duty * streams)) / (2 * duty)
    return math.floor(max(0.0, root) ** 2 + 1e-9)


def _normal_quantile(share: float) -> float:
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        if 0.5 * (1 + math.erf(middle / math.sqrt(2))) < share:
            low = middle
        else:
            high = middle
    return low
