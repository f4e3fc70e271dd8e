from __future__ import annotations

import pytest

from launch.cli import main
from launch.config import of_machine
from launch.configuration import Configuration
from launch.ports import ports


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["metrics", *argv]) == 0
    return capsys.readouterr().out


def test_the_list_names_each_metric_as_it_is_exposed(capsys) -> None:
    out = told(capsys)
    assert "\n  headrace_streams_total{operation, model, outcome, code}\n" in out
    assert "\n  gen_ai_server_time_to_first_token_seconds{" in out


def test_the_configuration_for_prometheus_asks_where_headrace_up_serves(capsys) -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(told(capsys, "--scrape-config", "--port-base", "8400"))
    asked = {target for job in found["scrape_configs"] for target in job["static_configs"][0]["targets"]}
    plan: Configuration = of_machine(()).on(8400)
    serves = {f"127.0.0.1:{named.port}" for named in ports(plan) if named.key.endswith("ops_port")}
    assert serves <= asked
    assert len({job["job_name"] for job in found["scrape_configs"]}) == 6
