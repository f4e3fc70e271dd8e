"""Names and shapes of every metric, by Prometheus' own rules of naming."""

from __future__ import annotations

import re

import pytest

from streamkit.ops.catalog import CATALOG, Metric

RESERVED = ("_total", "_sum", "_count", "_bucket", "_created", "_info")
rows = pytest.mark.parametrize("metric", CATALOG, ids=lambda metric: metric.name)


def test_names_are_used_once() -> None:
    names = [metric.name for metric in CATALOG]
    assert len(names) == len(set(names)) > 20


@rows
def test_the_name_is_valid_and_holds_no_suffix_that_the_exposition_adds(metric: Metric) -> None:
    assert re.fullmatch(r"(headrace|gen_ai_(server|client))_[a-z][a-z0-9_]*[a-z0-9]", metric.name)
    assert "__" not in metric.name
    assert not metric.name.endswith(RESERVED)


@rows
def test_units_are_base_units_at_the_end_of_the_name(metric: Metric) -> None:
    for unit in ("milliseconds", "ms", "minutes", "kilobytes", "kib", "percent"):
        assert unit not in metric.name.split("_")
    for unit in ("seconds", "bytes"):
        if unit in metric.name.split("_"):
            assert metric.name.endswith(f"_{unit}")
    if metric.kind == "histogram":
        # `{token}` is an annotation and no unit: OpenTelemetry's rules drop it from the name.
        assert metric.name.endswith(("_seconds", "_bytes", "_frames", "_windows", "_token_usage"))


@rows
def test_labels_are_valid_distinct_and_none_of_the_exposition_s_own(metric: Metric) -> None:
    assert len(set(metric.labels)) == len(metric.labels)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
        assert label not in ("le", "quantile", "job", "instance", "request_id", "tenant", "session")


@rows
def test_help_is_a_sentence(metric: Metric) -> None:
    assert metric.help[0].isupper() or metric.help[0] in "(1"
    assert metric.help.endswith(".")
    assert "\n" not in metric.help


@rows
def test_histograms_have_rising_positive_bounds_and_nothing_else_has_any(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(0 < bound < float("inf") for bound in metric.buckets)
