"""A real gateway under load, a real Prometheus, and every panel of every page: data, and never NaN."""

from __future__ import annotations

import asyncio
import bisect
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards.build import HERE
from dashboards.pages import PAGES
from dashboards.panel import Page, Panel
from loadtest.live.chart import chart, pictures
from loadtest.live.load import Load
from loadtest.live.site import Site
from streamkit.ops import catalog
from tests.support.needs import program

#: One run for all of them, and on both cores.
pytestmark = [pytest.mark.needs("prometheus"), pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(150)]
PANELS = [(page, panel) for page in PAGES for row in page.rows for panel in row.panels]
_LABEL = re.compile(r"\{\{(\w+)\}\}")
LOAD_S = 12.0
#: Longer than the load, so that what came once is in it.
WINDOW = "30s"


@dataclass
class Run:
    site: Site
    load: Load
    #: Unix seconds.
    began: float
    ended: float

    def ask(self, expr: str, instances: str = ".*") -> dict[str, float]:
        found = self.site.prometheus.ask(expr.replace("$__rate_interval", WINDOW).replace("$instance", instances))
        return {json.dumps(series.metric, sort_keys=True): float((series.value or (0, "nan"))[1]) for series in found}

    def instances(self, page: Page) -> str:
        """Return what a page can be narrowed to, all of it, as Grafana writes it."""
        found = self.ask(f"count by (instance) ({page.of})") if page.of else {}
        return "|".join(json.loads(labels)["instance"] for labels in found) or ".*"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("live")
    rules = []
    for path in HERE.glob("rules/*.yml"):
        # As they are, but for their pace: nobody waits half a minute here.
        copy = folder / path.name
        copy.write_text(path.read_text().replace("interval: 30s", "interval: 1s"))
        rules.append(copy)
    with Site(folder, rules=tuple(rules)) as site:
        load, began = Load(site, seconds=LOAD_S), time.time()
        asyncio.run(load.run())
        yield Run(site, load, began, time.time())


@pytest.mark.parametrize(("page", "panel"), PANELS, ids=[f"{page.name}: {panel.title}" for page, panel in PANELS])
def test_a_panel_shows_data_and_no_nan(run: Run, page: Page, panel: Panel) -> None:
    instances = run.instances(page)
    answers = {query.expr: run.ask(query.expr, instances) for query in panel.queries}
    assert all(math.isfinite(value) for found in answers.values() for value in found.values()), answers
    if panel.lacks:
        print(f"{page.name}: {panel.title}: no data, for this run lacks {panel.lacks}")
        assert not all(answers.values()), "it has data: take `lacks` away"
    else:
        assert all(answers.values()), answers
    for query in panel.queries:
        lines = [json.loads(labels) for labels in answers[query.expr]]
        assert all(set(_LABEL.findall(query.legend)) <= set(line) for line in lines), (query.legend, lines)
        legends = [_LABEL.sub(lambda found, line=line: line[found[1]], query.legend) for line in lines]
        assert len(set(legends)) == len(legends), "two lines have one name"


def test_a_page_over_a_time_without_traffic_shows_zero_or_nothing(run: Run) -> None:
    """An instance that nobody asks is every page's worst case: no rate and no quantile is NaN."""
    for _, panel in PANELS:
        for query in panel.queries:
            expr = query.expr.replace("$__rate_interval", WINDOW).replace("$instance", "nobody")
            values = [float((series.value or (0, "0"))[1]) for series in run.site.prometheus.ask(expr)]
            assert all(map(math.isfinite, values)), expr


def test_p95_of_ttft_is_what_the_clients_saw_to_within_a_bucket(run: Run) -> None:
    name = catalog.STREAM_TTFT.name
    (told,) = run.ask(f"histogram_quantile(0.95, sum by (le) ({name}_bucket))").values()
    (count,) = run.ask(f"sum({name}_count)").values()
    assert count >= len(run.load.ttft_s)
    seen = sorted(run.load.ttft_s)[int(0.95 * len(run.load.ttft_s))]
    buckets = [bisect.bisect_left(catalog.STREAM_TTFT.buckets, value) for value in (told, seen)]
    print(f"p95 of TTFT: {told * 1000:.0f} ms by Prometheus, {seen * 1000:.0f} ms by {len(run.load.ttft_s)} clients")
    assert abs(buckets[0] - buckets[1]) <= 1, (told, seen)


def test_the_chart_of_the_readme_is_drawn_of_it(run: Run) -> None:
    found = list(pictures(run.site.prometheus, run.began, run.ended, window=WINDOW))
    assert all(any(curve.points for curve in picture.curves) for picture in found), found
    text = chart(found, run.ended - run.began, ["a run"], mark_s=1.0)
    assert len(found) <= text.count("<path") <= sum(len(picture.curves) for picture in found)
    assert "nan" not in text


def test_top_says_the_same(run: Run) -> None:
    line = [sys.executable, "-m", "launch", "top", "--once", "--json", "--ready-file", str(run.site.ready_file)]
    done = subprocess.run(line, capture_output=True, timeout=30, check=True, cwd=Path(__file__).parents[2])
    found = json.loads(done.stdout)
    (edge,) = found["edges"]
    (p95,) = run.ask(f"histogram_quantile(0.95, sum by (le) ({catalog.STREAM_TTFT.name}_bucket))").values()
    # The probes go on: the one knows a few more of them than the other.
    assert edge["ttft_p95_s"] == pytest.approx(p95, rel=0.1)
    assert edge["requests"] >= len(run.load.ttft_s)
    assert edge["refused"] >= run.load.refused.count(404) > 0
    (backend,) = found["backends"]
    assert (backend["name"], backend["state"]) == ("sim", "up")
    assert backend["inflight"] <= 1
    (gpu,) = found["gpus"]
    assert gpu["total_bytes"] == 6144 * 1024 * 1024
    kinds = {process["kind"] for process in found["processes"]}
    assert kinds == {"edge", "control", "arbiter", "inference", "compositor", "observe"}
