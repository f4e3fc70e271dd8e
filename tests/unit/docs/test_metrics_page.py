"""docs/reference/metrics.md is the catalogue, word for word."""

from __future__ import annotations

import re
from pathlib import Path

from launch.metrics import markdown
from streamkit.ops.catalog import CATALOG

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_the_page_is_generated_from_the_catalogue():
    assert PAGE.read_text() == markdown(), "the catalogue has changed: run make dashboards"


def test_every_metric_stands_on_it_once():
    lines = PAGE.read_text().split("## Buckets")[0].splitlines()
    for metric in CATALOG:
        name = metric.name + ("_total" if metric.kind == "counter" else "")
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1, name


def test_no_page_names_a_metric_that_is_gone():
    endings = ("", "_total", "_bucket", "_sum", "_count")
    known = {metric.name + ending for metric in CATALOG for ending in endings}
    docs = PAGE.parents[1]
    named = 0
    # k6 has metrics of its own; a name that ends in `_*` stands for several.
    for path in sorted(docs.rglob("*.md")):
        if path.name == "loadtest.md":
            continue
        for name in re.findall(
            r"\b(?:headrace|gen_ai_server|gen_ai_client)_[a-z0-9_]*[a-z0-9]\b(?!_?\*)", path.read_text()
        ):
            named += 1
            assert name in known, f"{path.relative_to(docs)} names {name}"
    assert named > 50
