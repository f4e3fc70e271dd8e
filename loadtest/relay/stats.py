"""Percentiles, medians with spread, and ratios within a round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import msgspec


class Quantiles(msgspec.Struct, frozen=True):
    """Quantiles of one set of durations; the unit is that of the field that holds it."""

    count: int
    p50: float
    p99: float
    p999: float
    max: float


class Spread(msgspec.Struct, frozen=True):
    """Median of several runs with the smallest and the largest."""

    median: float
    low: float
    high: float
    runs: int


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of ascending values: the smallest with `share` (0 to 1] at or below it.

    Raises:
        ValueError: no values.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quantiles(values: Iterable[float], divisor: float = 1.0) -> Quantiles | None:
    """Return the quantiles of `values`, each divided by `divisor`; None when there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    at = {share: percentile(ordered, share) / divisor for share in (0.5, 0.99, 0.999)}
    return Quantiles(len(ordered), at[0.5], at[0.99], at[0.999], ordered[-1] / divisor)


def spread(values: Sequence[float]) -> Spread | None:
    """Return median, smallest and largest of `values`; None when there are none."""
    return Spread(median(values), min(values), max(values), len(values)) if values else None


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of (x, y) points; 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    around = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / around if around else 0.0


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Divide two gateways' values round by round, in the rounds that have both."""
    return [ours[number] / theirs[number] for number in sorted(ours) if theirs.get(number)]


def differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Subtract two gateways' values round by round, in the rounds that have both."""
    return [ours[number] - theirs[number] for number in sorted(ours) if number in theirs]
