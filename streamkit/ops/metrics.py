"""Metrics cheap enough for every token: plain numbers, turned into Prometheus families only at a scrape.

`prometheus_client` histograms take a lock and several calls for each observation; one of ours is a bisect and an
addition (about 0.15 us). Everything here belongs to one thread, the event loop's. Exposition stays the library's.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streamkit.ops.catalog import SERIES_FOLDED, TASKS, Metric

__all__ = ["MAX_SERIES", "OTHER", "Counter", "Histogram", "Metrics"]

#: Label sets of one metric in one process; a further one is counted with all that came too late, as `OTHER`.
MAX_SERIES: Final = 2_000
OTHER: Final = "other"


class Counter:
    """One series of a counter or a gauge: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Histogram:
    """One series of a histogram.

    Args:
        bounds: upper bounds of the buckets, rising; +Inf is added.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        #: Of each bucket alone, not cumulative. Who counts for every token may add here and settle `total` later.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the metric's unit."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Add all that another one of the same buckets has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative buckets as Prometheus wants them."""
        rows: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


class Metrics(Collector):
    """All series of one process.

    A series is made once for each set of label values and kept by whoever counts, so that counting needs no look-up.
    Labels are of a kind that nobody outside can make up; should one be all the same, the number of series is bounded.
    """

    def __init__(self) -> None:
        self._series: dict[Metric, dict[tuple[str, ...], Counter | Histogram]] = {}
        self._watched: dict[Metric, Callable[[], Iterable[tuple[tuple[str, ...], float]]]] = {}
        self._derived: dict[Metric, tuple[Metric, int]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.watch(TASKS, _tasks)
        self._folded = self.counter(SERIES_FOLDED)

    def counter(self, metric: Metric, *labels: str) -> Counter:
        """Return the series of a counter or gauge with these label values, in the catalogue's order."""
        series = self._of(metric, labels)
        if not isinstance(series, Counter):
            raise TypeError(f"{metric.name} is a {metric.kind}")
        return series

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        """Return the series of a histogram with these label values, in the catalogue's order."""
        series = self._of(metric, labels)
        if not isinstance(series, Histogram):
            raise TypeError(f"{metric.name} is a {metric.kind}")
        return series

    def watch(self, metric: Metric, read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]) -> None:
        """Read a metric's series by calling `read` at each scrape: `[(label values, value), …]`."""
        self._watched[metric] = read

    def derive(self, metric: Metric, source: Metric, label: str) -> None:
        """Show a histogram that is another one of the same buckets, summed by one of its labels."""
        self._derived[metric] = source, source.labels.index(label)

    def value(self, metric: Metric, *labels: str) -> float:
        """Return a counter's value, or a histogram's number of observations; 0 for a series never made."""
        if metric in self._watched:
            return dict(self._watched[metric]()).get(labels, 0.0)
        if metric in self._derived:
            return float(sum(sum(series.counts) for at, series in self._sums(metric).items() if (at,) == labels))
        series = self._series.get(metric, {}).get(labels)
        if series is None:
            return 0.0
        return series.value if isinstance(series, Counter) else float(sum(series.counts))

    def exposition(self) -> tuple[bytes, str]:
        """Return the body and content type of `/metrics`."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Family]:
        """Yield Prometheus families; called by the library at a scrape."""
        for metric, series in self._series.items():
            yield _family(metric, series.items())
        for metric, read in self._watched.items():
            yield _family(metric, read())
        for metric in self._derived:
            yield _family(metric, (((label,), series) for label, series in self._sums(metric).items()))

    def _sums(self, metric: Metric) -> dict[str, Histogram]:
        source, place = self._derived[metric]
        sums: dict[str, Histogram] = {}
        for labels, series in self._series.get(source, {}).items():
            if isinstance(series, Histogram):
                sums.setdefault(labels[place], Histogram(metric.buckets)).add(series)
        return sums

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Histogram:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, got {labels}")
        by_labels = self._series.setdefault(metric, {})
        series = by_labels.get(labels)
        if series is None and len(by_labels) >= MAX_SERIES:
            self._folded.value += 1
            labels = (OTHER,) * len(labels)
            series = by_labels.get(labels)
        if series is None:
            series = by_labels[labels] = Histogram(metric.buckets) if metric.kind == "histogram" else Counter()
        return series


def _tasks() -> list[tuple[tuple[str, ...], float]]:
    try:
        return [((), float(len(asyncio.all_tasks())))]
    except RuntimeError:  # no loop runs here
        return []


def _family(metric: Metric, rows: Iterable[tuple[tuple[str, ...], Counter | Histogram | float]]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, series in rows:
            if isinstance(series, Histogram):
                histogram.add_metric(labels, series.buckets(), series.total)
        return histogram
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, series in rows:
        if not isinstance(series, Histogram):
            family.add_metric(labels, series.value if isinstance(series, Counter) else series)
    return family
