"""Reading `/metrics`: what processes say of themselves now, and what has changed since they said it before."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from streamkit.ops.catalog import Metric
from streamkit.ops.http_client import HttpClient
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Scrape", "Window", "scrape"]

_CALL_MS: Final = 2_000
_BORN: Final = "process_start_time_seconds"
_SAID: Final = {"counter": "_total", "gauge": ""}


class _Ready(msgspec.Struct, frozen=True):
    state: str


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one process said, and when.

    Args:
        url: of its ops port.
        at_s: monotonic seconds.
        state: `ready`, `draining`, …
        series: values by sample name and labels.
        age_s: for how long it has been running, by its own word; 0 = it does not say.
    """

    url: str
    at_s: float
    state: str
    series: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]] = field(repr=False)
    age_s: float = 0.0

    @property
    def born_s(self) -> float:
        """Unix time of its start, which tells two processes at one address apart; 0 = it does not say."""
        return sum(self.sum(_BORN).values())

    def has(self, metric: Metric) -> bool:
        """Say whether it exports a counter or gauge."""
        return metric.name + _SAID[metric.kind] in self.series

    def sum(self, name: str, by: str = "", **where: str) -> dict[str, float]:
        """Return the sums of a sample by one label (all under one empty name without it)."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self.series.get(name, {}).items():
            known = dict(labels)
            if all(known.get(label) == wanted for label, wanted in where.items()):
                sums[known.get(by, "")] += value
        return dict(sums)


async def scrape(http: HttpClient, url: str) -> Scrape | None:
    """Return what answers at an ops address, or None: nothing of ours does.

    Raises:
        HttpError: nobody answers.
    """
    ready, page = await asyncio.gather(
        http.get(f"{url}/readyz", timeout_ms=_CALL_MS), http.get(f"{url}/metrics", timeout_ms=_CALL_MS)
    )
    at_s = time.monotonic()
    try:
        state = msgspec.json.decode(ready.body, type=_Ready).state
        families = list(text_string_to_metric_families(page.body.decode()))
    except (*UNREADABLE, ValueError):
        return None
    if page.status != 200:
        return None
    series: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for family in families:
        for sample in family.samples:
            series[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    if ready.status == 200:
        state = "ready"
    elif state == "ready":
        state = "not ready"  # it runs, and something that it needs is missing
    age_s = max((time.time() - born_s for born_s in series[_BORN].values()), default=0.0)
    return Scrape(url, at_s, state, dict(series), max(0.0, age_s))


@dataclass(frozen=True, slots=True)
class Window:
    """Processes over a stretch of time.

    Args:
        pairs: of each process what it said at the end, and at the beginning; None = it was started within.
    """

    pairs: Sequence[tuple[Scrape, Scrape | None]]

    def seconds(self) -> float:
        """Return how long it is; 0 = since each process's start."""
        return max((now.at_s - then.at_s for now, then in self.pairs if then is not None), default=0.0)

    def level(self, metric: Metric, by: str = "", **where: str) -> dict[str, float]:
        """Return a gauge at the end, summed by one label."""
        return _added(now.sum(metric.name, by, **where) for now, _ in self.pairs)

    def top(self, metric: Metric, by: str = "", **where: str) -> dict[str, float]:
        """Return a gauge at the end, its largest value by one label."""
        found: dict[str, float] = {}
        for now, _ in self.pairs:
            for key, value in now.sum(metric.name, by, **where).items():
                found[key] = max(value, found.get(key, -math.inf))
        return found

    def grown(self, sample: str, by: str = "", **where: str) -> dict[str, float]:
        """Return by how much the sample of a counter or histogram grew, by one label."""
        return _added(self._grown(now, then, sample, by, where) for now, then in self.pairs)

    def counted(self, metric: Metric, by: str = "", **where: str) -> dict[str, float]:
        """Return how much was counted, by one label."""
        return self.grown(f"{metric.name}_total", by, **where)

    def quantile(self, part: float, metric: Metric, **where: str) -> float | None:
        """Return a histogram's quantile as Prometheus reckons it, linear inside a bucket; None = no events."""
        buckets = {float(bound): count for bound, count in self.grown(f"{metric.name}_bucket", "le", **where).items()}
        bounds = sorted(buckets)
        events = buckets.get(math.inf, 0.0)
        if not events:
            return None
        rank, below, floor = part * events, 0.0, 0.0
        for bound in bounds:
            if buckets[bound] >= rank:
                if math.isinf(bound):
                    return floor  # beyond the last boundary nothing is known
                return floor + (bound - floor) * (rank - below) / ((buckets[bound] - below) or 1.0)
            below, floor = buckets[bound], bound
        return floor

    @staticmethod
    def _grown(now: Scrape, then: Scrape | None, sample: str, by: str, where: Mapping[str, str]) -> dict[str, float]:
        values = now.sum(sample, by, **where)
        if then is None:
            return values
        before = then.sum(sample, by, **where)
        # A counter that fell was reset by a restart at the same address.
        return {
            key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
            for key, value in values.items()
        }


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for part in parts:
        for key, value in part.items():
            sums[key] += value
    return dict(sums)
