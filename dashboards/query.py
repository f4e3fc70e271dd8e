"""PromQL over the metric catalogue: no name is typed, no quantile is averaged, and no traffic never gives NaN.

A counter that nobody has counted into yet gives 0, under a label that says so; a quantile or a ratio of nothing gives
no data, which panels show as such.
"""

from __future__ import annotations

from typing import Final

from dashboards.panel import Query
from streamkit.ops.catalog import Metric

__all__ = [
    "INTERVAL",
    "UNCOUNTED",
    "heat",
    "level",
    "mean",
    "percentiles",
    "quantile",
    "rate",
    "ratio",
    "worst",
    "zero",
]

#: Grafana's own choice: long enough for the scrape interval, whatever that is.
INTERVAL: Final = "$__rate_interval"
#: Label of the 0 of a counter that nobody has counted into yet, so that its legend is no bare `{{label}}`.
UNCOUNTED: Final = "nothing yet"


def _selector(where: str) -> str:
    return '{instance=~"$instance"' + (f", {where}" if where else "") + "}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _check(metric: Metric, kind: str, labels: tuple[str, ...]) -> None:
    """Raise ValueError where a query could not mean what it says."""
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
    if unknown := set(labels) - {*metric.labels, "instance", "job"}:
        raise ValueError(f"{metric.name} has no labels {sorted(unknown)}")


def rate(metric: Metric, *by: str, where: str = "") -> str:
    """Return a counter's growth a second, 0 where there is none."""
    _check(metric, "counter", by)
    # `on()`: only where there is nothing else.
    return f"sum{_by(by)} (rate({metric.name}_total{_selector(where)}[{INTERVAL}])) or on() {zero(*by)}"


def zero(*labels: str) -> str:
    """Return 0 with labels that say that nothing was counted yet."""
    expr = "vector(0)"
    for place, label in enumerate(labels):
        expr = f'label_replace({expr}, "{label}", "{"-" if place else UNCOUNTED}", "", "")'
    return expr


def level(metric: Metric, *by: str, where: str = "") -> str:
    """Return a gauge, summed."""
    _check(metric, "gauge", by)
    return f"sum{_by(by)} ({metric.name}{_selector(where)})"


def worst(metric: Metric, *by: str, where: str = "", of_all: bool = False) -> str:
    """Return a gauge, the largest of it; `of_all`: whatever instance the page is narrowed to."""
    _check(metric, "gauge", by)
    return f"max{_by(by)} ({metric.name}{'' if of_all else _selector(where)})"


def quantile(part: float, metric: Metric, *by: str, where: str = "") -> str:
    """Return a histogram's quantile. A comparison drops NaN, so it is no data where there were no events."""
    _check(metric, "histogram", by)
    buckets = f"rate({metric.name}_bucket{_selector(where)}[{INTERVAL}])"
    return f"histogram_quantile({part}, sum{_by(('le', *by))} ({buckets})) >= 0"


def percentiles(metric: Metric, *parts: float) -> tuple[Query, ...]:
    """Return a line for each of some quantiles."""
    return tuple(Query(quantile(part, metric), f"p{100 * part:g}") for part in parts)


def heat(metric: Metric) -> tuple[Query, ...]:
    """Return how many there were in each of a histogram's buckets."""
    _check(metric, "histogram", ())
    return (Query(f"sum by (le) (increase({metric.name}_bucket{_selector('')}[{INTERVAL}]))", "{{le}}"),)


def mean(metric: Metric, *by: str, where: str = "") -> str:
    """Return a histogram's mean of the last interval, and not of a lifetime."""
    _check(metric, "histogram", by)
    total, count = (
        f"sum{_by(by)} (rate({metric.name}_{part}{_selector(where)}[{INTERVAL}]))" for part in ("sum", "count")
    )
    return f"{total} / ({count} > 0)"


def ratio(metric: Metric, good: str, *by: str, among: str = "") -> str:
    """Return the part that `good` selects of what `among` does, or all; no data where nothing was counted."""
    _check(metric, "counter", by)
    some, every = (
        f"sum{_by(by)} (rate({metric.name}_total{_selector(where)}[{INTERVAL}]))" for where in (good, among)
    )
    # A part that was never counted is 0, not unknown.
    return f"({some} or {every} * 0) / ({every} > 0)"
