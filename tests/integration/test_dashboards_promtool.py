"""Prometheus' own judgement of the rules: alerts fire when they must, and only then."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dashboards.build import HERE
from dashboards.pages import PAGES
from launch.metrics import scrape_config
from tests.support.needs import program

pytestmark = [pytest.mark.needs("promtool"), pytest.mark.slow]


def promtool(*arguments: str) -> str:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alerts_fire_when_they_must_and_only_then() -> None:
    promtool("check", "rules", *map(str, sorted(HERE.glob("rules/*.yml"))))
    tests = sorted(HERE.glob("rules/tests/*.yml"))
    assert promtool("test", "rules", *map(str, tests)).count("SUCCESS") == len(tests) == 6


def test_the_configuration_that_headrace_metrics_prints_is_one_with_our_rules(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(scrape_config(8400))
    (tmp_path / "dashboards").symlink_to(HERE)
    said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert f"SUCCESS: {len(list(HERE.glob('rules/*.yml')))} rule files found" in said


def test_every_panel_s_query_is_promql(tmp_path: Path) -> None:
    exprs = [query.expr for page in PAGES for row in page.rows for panel in row.panels for query in panel.queries]
    recorded = [
        {"record": f"panel:{at}", "expr": expr.replace("$__rate_interval", "1m")} for at, expr in enumerate(exprs)
    ]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(exprs)} rules found" in promtool("check", "rules", str(tmp_path / "panels.yml"))
