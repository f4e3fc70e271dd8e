"""`headrace bench slow --quick`, end to end: no figure is asserted but the one that is a promise: memory is flat."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loadtest.slow.cli import main

BOUND_BYTES = 64 * 1024


def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gateways", "nobody"]) == 2
    assert "no such gateway: nobody; there are direct, nginx" in capsys.readouterr().err
    assert main(["--runs", "0"]) == 2


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the gateway needs a core of its own")
def test_slow_readers_hold_a_bounded_amount_and_their_neighbours_flow(tmp_path: Path) -> None:
    file = tmp_path / "slow.json"
    arguments = ["--quick", "--seconds", "6", "--slow", "200", "--frozen", "10", "--gateways", "headrace"]
    assert main([*arguments, "--json", str(file)]) == 0
    (pair,) = json.loads(file.read_bytes())["pairs"]
    assert pair["crowd"]["slow"] == 200, "nobody who reads is cut"
    assert pair["crowd"]["taken_bytes"] > 200 * 1024 * 3
    for run in (pair["alone"], pair["crowded"]):
        assert run["outcomes"]["whole"] == 20, "the neighbours' streams are whole"
    # Engines offer megabytes a second: without a bound this would be gigabytes a minute.
    assert pair["memory"]["rss_bytes_per_s"] * 6 < 210 * BOUND_BYTES
    assert pair["memory"]["rss_bytes_per_reader"] < 4 * BOUND_BYTES
