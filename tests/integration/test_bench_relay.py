"""`headrace bench relay --quick`, end to end, against real gateways. No figure is asserted: the machine is shared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest.relay import proc
from loadtest.relay.cli import main
from tests.support.needs import program
from tests.support.timing import MS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the gateway needs a core of its own"),
]

ROOT = Path(__file__).resolve().parents[2]


def bench(tmp_path, *arguments: str) -> dict:
    file = tmp_path / "report.json"
    assert main(["--quick", "--seconds", "1", "--json", str(file), *arguments]) == 0
    return json.loads(file.read_bytes())


def assert_sound(report: dict, gateways: set[str], scenarios: set[str]) -> None:
    assert report["schema"] == "headrace.bench.relay/1"
    assert {(run["gateway"], run["scenario"]) for run in report["runs"]} == {
        (gateway, scenario) for gateway in gateways for scenario in scenarios
    }
    for run in report["runs"]:
        assert run["failed"] is None
        outcomes = run["outcomes"]
        assert outcomes["whole"] > 0, run
        assert sum(outcomes.values()) == outcomes["whole"] + outcomes["unfinished"], run
        assert run["window_s"] > 0


@pytest.mark.long
def test_quick_with_nginx(tmp_path, capsys):
    program("nginx")
    report = bench(tmp_path, "--gateways", "direct,nginx")
    scenarios = {"paced-20", "ttft", "nonstream", "idle", "saturated"}
    assert_sound(report, {"direct", "nginx"}, scenarios)
    assert report["machine"]["cpus"] >= 2
    assert {info["name"]: bool(info["version"]) for info in report["gateways"]} == {"direct": False, "nginx": True}
    cells = {(cell["scenario"], cell["gateway"]): cell for cell in report["summary"]}
    assert cells["paced-20", "nginx"]["figures"]["cpu_us_per_token"]["ratio_to_nginx"]["median"] == 1.0
    assert "cpu_us_per_token" not in cells["paced-20", "direct"]["figures"]
    assert cells["idle", "nginx"]["figures"]["streams_open"]["value"]["median"] == 200
    assert cells["idle", "nginx"]["lost"] == 0
    printed = capsys.readouterr().out
    assert "[10/10]" in printed
    assert "x nginx" in printed


@pytest.mark.long
def test_quick_with_the_relays_that_ship_with_it(tmp_path):
    pytest.importorskip("aiohttp")
    report = bench(tmp_path, "--gateways", "starlette-aiohttp,starlette-httpx", "--scenarios", "paced-20,nonstream")
    assert_sound(report, {"starlette-aiohttp", "starlette-httpx"}, {"paced-20", "nonstream"})


def test_quick_with_headrace(tmp_path):
    report = bench(tmp_path, "--gateways", "headrace,headrace-ws", "--scenarios", "paced-20,nonstream,idle")
    over = [run for run in report["runs"] if run["gateway"] == "headrace-ws"]
    assert {run["scenario"] for run in over} == {"paced-20", "idle"}, "streams only"
    assert_sound({**report, "runs": over}, {"headrace-ws"}, {"paced-20", "idle"})
    report["runs"] = [run for run in report["runs"] if run not in over]
    assert_sound(report, {"headrace"}, {"paced-20", "nonstream", "idle"})
    assert "CPU per token over WebSocket" in {verdict["figure"] for verdict in report["verdicts"]}
    paced = next(run for run in report["runs"] if run["scenario"] == "paced-20")
    assert 0 < paced["cpu_us_per_token"] <= paced["tree_cpu_us_per_token"]


@pytest.fixture
def interruptible():
    """A shell's background job ignores SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_children_and_reports(number):
    command = [sys.executable, "-m", "loadtest.relay", "--gateways", "direct", "--scenarios", "paced-20,ttft"]
    with subprocess.Popen(
        [*command, "--seconds", "2", "--runs", "2"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        while "[1/4]" not in process.stdout.readline():
            pass
        family = proc.tree([process.pid])
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait() == 130
    assert "interrupted" in rest
    assert "staggered" in rest
    # What was just being started is ended by its leash, a moment after the benchmark.
    deadline = time.monotonic() + 10_000 * MS
    while proc.tree(family):
        assert time.monotonic() < deadline, "a child outlived the benchmark"
