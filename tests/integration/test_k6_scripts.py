"""The k6 scripts against a real gateway, run by a simulator of k6 (tests/support/k6/run.mjs says why)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.gateway import Gateway
from tests.support.processes import launch
from tests.support.timing import FACTOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
TIMES = 2


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulated engine with no gateway before it, which breaks off as told."""
    with launch("simulate", "--port", "0", folder=tmp_path_factory.mktemp("engine")) as running:
        yield str(running.ready()["url"])


def k6(script: str, url: str, **environment: str) -> dict[str, Any]:
    """Run a script's default function some times and return what it measured."""
    line = [
        needs.program("node"), "--no-warnings", "--experimental-websocket", ROOT / "tests/support/k6/run.mjs",
        ROOT / "loadtest/k6" / script, str(TIMES),
    ]  # fmt: skip
    given = {**os.environ, "URL": url, "MAX_TOKENS": "8", **environment}
    done = subprocess.run(line, env=given, capture_output=True, text=True, check=False, timeout=60 * FACTOR)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["options"]["thresholds"]) - {"dropped_iterations"} <= set(found["measures"])
    return found


def test_streams_are_measured(gateway: Gateway):
    found = k6("sse.js", gateway.edge_url)
    measures = found["measures"]
    assert found["checks"] == {"passes": TIMES, "fails": 0}
    assert measures["headrace_whole"] == [1] * TIMES
    assert sum(measures["headrace_tokens"]) == 8 * TIMES
    assert len(measures["headrace_ttft"]) == len(measures["headrace_jitter"]) == TIMES
    assert len(measures["headrace_gap"]) == 7 * TIMES
    assert measures["headrace_disconnects"] == measures["headrace_error_frames"] == []


def test_streams_on_a_socket_are_measured(gateway: Gateway):
    found = k6("ws.js", gateway.edge_url, STREAMS="3")
    assert found["checks"] == {"passes": 3 * TIMES, "fails": 0}
    assert sum(found["measures"]["headrace_tokens"]) == 3 * 8 * TIMES
    broken = k6("ws.js", gateway.edge_url, STREAMS="2", X_SIM="error_after=3")
    assert broken["measures"]["headrace_whole"] == [0] * 2 * TIMES
    assert sum(broken["measures"]["headrace_error_frames"]) == 2 * TIMES


def test_routes_are_measured(gateway: Gateway):
    found = k6("route.js", gateway.edge_url, CONTROL_URL=gateway.control_url)
    assert found["measures"]["headrace_routed"] == [1] * TIMES
    nowhere = k6("route.js", gateway.edge_url, CONTROL_URL=gateway.control_url, MODEL="nobody")
    assert nowhere["measures"]["headrace_routed"] == [0] * TIMES, "a refusal is a 200 as well"


@pytest.mark.parametrize(
    ("sim", "measure"),
    [
        ("end_after=3", "headrace_disconnects"),
        ("die_after=3", "headrace_disconnects"),
        ("status=503", "headrace_shed"),
    ],
)
def test_an_answer_that_is_not_whole_is_counted_by_what_it_is(engine: str, sim: str, measure: str):
    found = k6("sse.js", engine, X_SIM=sim)
    assert found["measures"]["headrace_whole"] == [0] * TIMES
    assert found["checks"] == {"passes": 0, "fails": TIMES}
    assert found["measures"][measure] == [1] * TIMES
