"""The soak in short, and the arithmetic of its verdict."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loadtest.soak.watch import growth_bound_bytes

MIB = 1 << 20


def test_the_bound_grows_with_the_run_and_has_a_floor():
    assert growth_bound_bytes(10) == 8 * MIB
    assert growth_bound_bytes(1_800) == 30 * MIB


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_half_a_minute_of_mixed_load_leaks_nothing_and_no_answer_lies():
    line = [sys.executable, "-m", "loadtest.soak", "--minutes", "0.5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ 0 answers were wrong" in done.stdout
    assert "✓ asyncio tasks" in done.stdout
    for kind in ("stream", "sockets", "socket_resume", "socket_takes_over"):
        assert f"{kind}: complete" in done.stdout, done.stdout
