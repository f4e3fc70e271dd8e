"""What is checked in is what the code writes, and names only what the catalogue has."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from dashboards.build import HERE, files
from dashboards.burn import BAD, BURNS, EVENTS, error_series, events_series
from dashboards.pages import PAGES
from dashboards.panel import Panel
from dashboards.query import level, mean, quantile, rate, ratio
from dashboards.slos import WINDOWS
from streamkit.ops import catalog
from streamkit.ops.catalog import CATALOG

FILES = files()
PANELS = [panel for page in PAGES for row in page.rows for panel in row.panels]
#: Not ours: what Prometheus and the Python client add, and what our own rules record.
FOREIGN = {
    *("up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"),
    *(BAD, EVENTS),
    *map(error_series, WINDOWS),
    *(events_series(burn.long) for burn in BURNS),
}
_NAME = re.compile(r"(?<![\w\"$.])[a-zA-Z_:][a-zA-Z0-9_:]*(?=[{\[) ]|$)")
_WORDS = {
    *("sum", "max", "min", "by", "or", "and", "rate", "increase", "vector", "histogram_quantile", "le"),
    "label_replace",
}


def samples() -> set[str]:
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {metric.name + ending for metric in CATALOG for ending in endings[metric.kind]}


def names(expr: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|by \([^)]*\)|\[[^]]*\]", " ", expr)
    return {name for name in _NAME.findall(bare) if name not in _WORDS}


@pytest.mark.parametrize("path", FILES)
def test_checked_in_byte_for_byte(path: str) -> None:
    assert (HERE / path).read_text() == FILES[path], f"dashboards/{path} is another one: run make dashboards"


def test_nothing_else_lies_there() -> None:
    there = {str(path.relative_to(HERE)) for kind in ("generated/*.json", "rules/*.yml") for path in HERE.glob(kind)}
    assert there == set(FILES)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_name_is_in_the_catalogue(panel: Panel) -> None:
    for query in panel.queries:
        found = names(query.expr)
        assert found
        assert found <= samples() | FOREIGN, query.expr


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("rules/")])
def test_rules_name_what_the_catalogue_has(path: str) -> None:
    found = set(re.findall(r"\b(?:headrace|gen_ai)_[a-z_]+", FILES[path]))
    assert found
    assert found <= samples()


def test_every_histogram_of_the_catalogue_is_on_a_page() -> None:
    text = " ".join(query.expr for panel in PANELS for query in panel.queries)
    histograms = [metric.name for metric in CATALOG if metric.kind == "histogram"]
    assert [name for name in histograms if f"{name}_" not in text] == []


def test_titles_are_used_once_on_a_page_and_say_something() -> None:
    for page in PAGES:
        titles = Counter(panel.title for row in page.rows for panel in row.panels)
        assert titles.most_common(1)[0][1] == 1, page.name
    assert all(panel.what.endswith((".", "!", "?")) and panel.queries for panel in PANELS)


def test_panels_that_a_run_here_cannot_fill_are_few_and_known() -> None:
    lacking = {panel.title: panel.lacks for panel in PANELS if panel.lacks}
    assert lacking == {"Events on their way": "a hub that gathers from sites"}


def test_a_query_that_cannot_mean_what_it_says_is_refused() -> None:
    with pytest.raises(ValueError, match="is a histogram, not a counter"):
        rate(catalog.STREAM_TTFT)
    with pytest.raises(ValueError, match="is a counter, not a gauge"):
        level(catalog.STREAMS)
    with pytest.raises(ValueError, match="has no labels"):
        quantile(0.5, catalog.STREAM_GAP, "tenant")
    with pytest.raises(ValueError, match="not a histogram"):
        mean(catalog.STREAMS)
    assert ratio(catalog.ROUTES, 'source="cache"').endswith("> 0)")
