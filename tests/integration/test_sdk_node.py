"""openai-node against the gateway: the scenarios of tests/interop/node, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import program
from tests.support.rig import Rig, ms, rig
from tests.support.timing import FACTOR

NODE = Path(__file__).parent.parent / "interop" / "node"
SCENARIOS = re.findall(r"^  async (\w+)\(", (NODE / "scenarios.mjs").read_text(), re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def node() -> str:
    """Return the path of node, with the locked packages installed beside the scenarios."""
    found, npm = program("node"), program("npm")
    lock, installed = NODE / "package-lock.json", NODE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        run = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=150 * FACTOR, check=False)
        assert run.returncode == 0, f"npm ci in {NODE} failed:\n{run.stderr}"
        installed.touch()
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    edge = {"commit_after_ms": ms(150), "heartbeat_ms": ms(80)}
    with rig(tmp_path_factory.mktemp("node"), {"alpha": {}}, edge=edge) as ours:
        yield ours


def test_every_scenario_is_found(node: str) -> None:
    listed = subprocess.run([node, "check.mjs", "--list"], cwd=NODE, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == SCENARIOS
    assert len(SCENARIOS) > 10


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(node: str, site: Rig, scenario: str) -> None:
    run = subprocess.run(
        [node, "check.mjs", scenario, site.url, site.url_of("alpha")],
        cwd=NODE,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60 * FACTOR,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"{scenario} holds"
    site.wait_quiet()
    site.heal()


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (NODE / "package-lock.json").read_text()
