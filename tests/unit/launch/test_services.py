"""One service by itself: what it says when it cannot start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: What an import finds when a package is not installed.
PROGRAM = """
import sys
sys.modules["grpc"] = None
from launch.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["arbiter", "leases"])
def test_a_missing_package_is_named_with_its_extra(command):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        f"headrace {command}: the package grpc is missing: pip install 'headrace[arbiter]'\n",
    )


@pytest.mark.parametrize("name", ["queue_ms", "route_timeout_ms"])
def test_the_edge_alone_refuses_settings_that_do_not_fit_together(name, tmp_path):
    file = tmp_path / "headrace.toml"
    file.write_text(f"[edge]\n{name} = 5_000\ncommit_after_ms = 5_000\n")
    line = [sys.executable, "-m", "launch", "edge", "--config", str(file)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{file}: edge.{name}: expected less than edge.commit_after_ms (5000), got 5000" in done.stderr
    assert done.stderr.count("\n") == 1
