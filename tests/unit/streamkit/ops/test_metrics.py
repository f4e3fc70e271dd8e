"""Counting, and the exposition as Prometheus' own parser reads it."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streamkit.ops import catalog
from streamkit.ops.catalog import CATALOG, Metric
from streamkit.ops.metrics import Histogram, Metrics

COUNTER = Metric("headrace_things", "counter", "Things.", ("kind",))
PLAIN = Metric("headrace_level", "gauge", "A level.")
TIMES = Metric("headrace_wait_seconds", "histogram", "Waits.", ("kind",), (0.1, 1.0))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, kind = metrics.exposition()
    assert kind.startswith("text/plain")
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(body.decode()):
        sample: Sample
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, "a series is exposed once"
            found[key] = sample.value
    return found


def test_counters_gain_total_and_gauges_do_not() -> None:
    metrics = Metrics()
    metrics.counter(COUNTER, "a").value += 2
    metrics.counter(PLAIN).value = -1.5
    found = samples(metrics)
    assert found["headrace_things_total", (("kind", "a"),)] == 2
    assert found["headrace_level", ()] == -1.5


def test_a_series_is_made_once() -> None:
    metrics = Metrics()
    assert metrics.counter(COUNTER, "a") is metrics.counter(COUNTER, "a")
    assert metrics.counter(COUNTER, "a") is not metrics.counter(COUNTER, "b")
    assert metrics.histogram(TIMES, "a") is metrics.histogram(TIMES, "a")


def test_histograms_are_cumulative_with_sum_and_count() -> None:
    metrics = Metrics()
    series = metrics.histogram(TIMES, "a")
    for value in (0.05, 0.1, 0.5, 7.0):
        series.observe(value)
    found = samples(metrics)
    buckets = {dict(labels)["le"]: value for (name, labels), value in found.items() if name == f"{TIMES.name}_bucket"}
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert found[f"{TIMES.name}_count", (("kind", "a"),)] == 4
    assert found[f"{TIMES.name}_sum", (("kind", "a"),)] == pytest.approx(7.65)


@settings(max_examples=60)
@given(
    st.lists(st.floats(0.001, 1e6), min_size=1, max_size=8, unique=True).map(sorted),
    st.lists(st.floats(0, 1e7), max_size=20),
)
def test_each_bucket_counts_what_is_at_most_its_bound(bounds: list[float], values: list[float]) -> None:
    series = Histogram(tuple(bounds))
    for value in values:
        series.observe(value)
    for label, count in series.buckets():
        assert count == sum(value <= float(label) for value in values)
    assert series.total == pytest.approx(math.fsum(values))


def test_the_wrong_kind_and_the_wrong_labels_are_refused() -> None:
    metrics = Metrics()
    with pytest.raises(TypeError, match="is a histogram"):
        metrics.counter(TIMES, "a")
    with pytest.raises(TypeError, match="is a counter"):
        metrics.histogram(COUNTER, "a")
    for labels in ((), ("a", "b")):
        with pytest.raises(ValueError, match="has the labels"):
            metrics.counter(COUNTER, *labels)


def test_watched_metrics_are_read_at_each_scrape() -> None:
    metrics = Metrics()
    level = {"a": 1.0}
    metrics.watch(COUNTER, lambda: [((name,), value) for name, value in level.items()])
    assert samples(metrics)["headrace_things_total", (("kind", "a"),)] == 1
    level["a"] = 3.0
    assert samples(metrics)["headrace_things_total", (("kind", "a"),)] == 3
    assert metrics.value(COUNTER, "a") == 3
    assert metrics.value(COUNTER, "b") == 0


def test_values_can_be_asked_for_without_making_a_series() -> None:
    metrics = Metrics()
    assert metrics.value(COUNTER, "a") == 0
    assert metrics.value(TIMES, "a") == 0
    assert not [key for key in samples(metrics) if key[0].startswith("headrace_things")]
    metrics.counter(COUNTER, "a").value += 1
    metrics.histogram(TIMES, "a").observe(0.2)
    assert metrics.value(COUNTER, "a") == 1
    assert metrics.value(TIMES, "a") == 1


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", "ä日本", ""])
def test_any_label_value_survives(label: str) -> None:
    metrics = Metrics()
    metrics.counter(COUNTER, label).value += 1
    assert samples(metrics)["headrace_things_total", (("kind", label),)] == 1


def test_a_label_that_somebody_makes_up_cannot_grow_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.ops.metrics.MAX_SERIES", 3)
    metrics = Metrics()
    for number in range(10):
        metrics.counter(COUNTER, f"model-{number}").value += 1
        metrics.histogram(TIMES, f"model-{number}").observe(0.2)
    found = samples(metrics)
    kinds = {
        dict(labels)["kind"]: value for (name, labels), value in found.items() if name == "headrace_things_total"
    }
    assert kinds == {"model-0": 1, "model-1": 1, "model-2": 1, "other": 7}
    assert found[f"{TIMES.name}_count", (("kind", "other"),)] == 7
    assert metrics.value(catalog.SERIES_FOLDED) == 14
    # Those that were there go on by their own names.
    metrics.counter(COUNTER, "model-1").value += 1
    assert metrics.value(COUNTER, "model-1") == 2


def test_the_whole_catalogue_is_exposed_and_read_back() -> None:
    metrics = Metrics()
    for metric in CATALOG:
        labels = ["x"] * len(metric.labels)
        if metric.kind == "histogram":
            metrics.histogram(metric, *labels).observe(metric.buckets[0])
        else:
            metrics.counter(metric, *labels).value += 1
    found = samples(metrics)
    for metric in CATALOG:
        suffix = {"counter": "_total", "gauge": "", "histogram": "_count"}[metric.kind]
        assert found[metric.name + suffix, tuple((label, "x") for label in sorted(metric.labels))] == 1
        if metric.kind == "histogram":
            bounds = [float(dict(labels)["le"]) for name, labels in found if name == f"{metric.name}_bucket"]
            assert bounds == [*metric.buckets, math.inf]


def test_the_process_speaks_of_itself_too() -> None:
    names = {name for name, _ in samples(Metrics())}
    assert {"process_resident_memory_bytes", "python_info"} <= names


def test_two_processes_parts_do_not_share_series() -> None:
    first, second = Metrics(), Metrics()
    first.counter(catalog.HEARTBEATS).value += 1
    assert second.value(catalog.HEARTBEATS) == 0


def test_live_tasks_are_counted_at_a_scrape() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        before = metrics.value(catalog.TASKS)
        task = asyncio.create_task(asyncio.Event().wait())
        assert metrics.value(catalog.TASKS) == before + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert metrics.value(catalog.TASKS) == before

    asyncio.run(scenario())
