"""Every parser of foreign bytes under atheris, briefly: an exception that is not the parser's own ends the run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TARGETS = ("sse", "ollama", "request", "splice", "predict", "stream_ids", "resume", "socket", "token", "headers")
#: For each; together half a minute at most.
SECONDS = 3
assert SECONDS * len(TARGETS) <= 30

pytestmark = pytest.mark.slow


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_finds_nothing(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        target,
        str(corpus),
        f"-max_total_time={SECONDS}",
        "-max_len=4096",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=False, timeout=55
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr, "it must have run"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
