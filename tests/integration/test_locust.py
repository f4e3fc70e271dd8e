"""Locust against a real gateway: a good run passes, and a 200 that is no answer fails it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchange import ask
from tests.support.gateway import Gateway, start_gateway
from tests.support.processes import launch, running, until
from tests.support.timing import FACTOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
#: What is judged here is the reading, not speed.
PATIENT = {"TTFT_MS": "20000", "GAP_MS": "20000", "JITTER_MS": "20000"}
SITE = """
[control]
probe_interval_ms = 200
[simulator]
ttft_ms = 20.0
itl_ms = 2.0
"""
Stats = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a simulated engine and a simulated compositor."""
    folder = tmp_path_factory.mktemp("site")
    ready = folder / "compositor.json"
    line = [sys.executable, "-m", "simulator.compositor", "--ready-file", str(ready)]
    with running(line, folder, name="compositor", ready_file=ready) as compositor:
        url = compositor.ready()["url"]
        ours = start_gateway(f'{SITE}\n[edge.avatars]\ncompositor_url = "{url}"\n')
        yield ours
        ours.stop()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulator with no gateway before it, which breaks off as told: ours would say so in an error frame."""
    with launch("simulate", "--port", "0", folder=tmp_path_factory.mktemp("engine")) as running:
        yield str(running.ready()["url"])


def locust(url: str, *users: str, **environment: str) -> tuple[int, Stats, str]:
    """Run users for a moment; return the status, the statistics by type and name, and what was said."""
    line = [
        sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest/locust/users.py"), "--headless", "--json",
        "-u", str(2 * len(users)), "-r", "20", "-t", f"{2 * FACTOR:.0f}s", "--stop-timeout", "20", "-H", url, *users,
    ]  # fmt: skip
    given = {**os.environ, "MAX_TOKENS": "8", **PATIENT, **environment}
    done = subprocess.run(line, env=given, capture_output=True, text=True, check=False, timeout=60 * FACTOR, cwd=ROOT)
    said = done.stdout + done.stderr
    # What the run has to say of itself stands before the JSON.
    assert "\n[" in f"\n{done.stdout}", said
    rows, _ = json.JSONDecoder().raw_decode(f"\n{done.stdout}".split("\n[", 1)[1].join(("[", "")))
    return done.returncode, {(row["method"], row["name"]): row for row in rows}, said


def test_a_good_run_is_measured_and_passes(site: Gateway):
    status, found, said = locust(site.edge_url, "SseUser", "SocketUser", "ResumeUser")
    assert status == 0, said
    for kind in ("SSE", "WS", "SSE resumed"):
        assert found[kind, "stream"]["num_requests"] > 0, said
        assert found[kind, "stream"]["num_failures"] == 0, said
        assert found[kind, "ttft"]["min_response_time"] >= 15
        assert (kind, "disconnect") not in found
    assert found["SSE resumed", "resume"]["num_requests"] > 0


def test_the_first_token_is_the_first_and_not_the_first_kilobyte(engine: str):
    """Tokens of some 200 bytes, far apart: who reads blocks of 1,024 bytes sees the first with the fifth."""
    status, found, said = locust(engine, "SseUser", X_SIM="ttft_ms=50,itl_ms=300,tokens=5")
    assert status == 0, said
    assert 45 <= found["SSE", "ttft"]["min_response_time"] < 600


@pytest.mark.parametrize("sim", ["end_after=3"])
def test_a_run_whose_answers_are_200_and_not_whole_fails(engine: str, sim: str):
    status, found, said = locust(engine, "SseUser", X_SIM=sim)
    assert status == 1, said
    stream = found["SSE", "stream"]
    assert stream["num_requests"] == stream["num_failures"] > 0
    assert found["SSE", "disconnect"]["num_failures"] == stream["num_requests"]


def test_avatar_sessions_are_opened_and_closed(site: Gateway):
    until(lambda: ask(site.edge_url, "/v1/avatars").json["data"], what="an avatar is listed")
    status, found, said = locust(site.edge_url, "AvatarUser")
    assert status == 0, said
    assert found["WHEP", "whep"]["num_requests"] > 0
    assert found["WHEP", "hang up"]["num_failures"] == 0


def test_a_gateway_without_avatars_is_told_as_that(engine: str):
    _, found, said = locust(engine, "AvatarUser")
    assert "skipped: no avatar is configured" in said
    assert found == {}
