"""`headrace bench avatar`, short: it runs a real server and prints what it promises."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_short_run_prints_rates_and_weights_next_to_the_claims(tmp_path):
    line = [sys.executable, "-m", "launch", "bench", "avatar", "--quick", "--json", str(tmp_path / "report.json")]
    result = subprocess.run(line, capture_output=True, text=True, check=False, timeout=110)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    (rate,) = report["inference"]
    assert rate["device"] == "CPU, one core"
    assert rate["of_claim"] == pytest.approx(rate["frames_per_s_per_worker"] / 150)
    sizes = {found["encoding"]: found["answer_bytes"] for found in report["encodings"]}
    assert sizes["JPEG"] < sizes["UINT8"] < sizes["FLOAT16"] < sizes["FLOAT32"]
    assert all(found["request_bytes"] < 34_000 for found in report["encodings"])
    pictures = {picture["codec"]: picture for picture in report["pictures"]}
    assert set(pictures) == {"h264", "vp8"}
    for picture in pictures.values():
        assert picture["total_ms"] == pytest.approx(picture["of_claim"] * 25)
        assert picture["ssim"] > 0.9
        assert 0 < picture["bitrate_bps"] <= picture["bitrate_limit_bps"] * 1.5
        assert picture["bitrate_of_claim"] == pytest.approx(picture["bitrate_bps"] / 800_000)
    assert {(still["size"], still["image"]) for still in report["stills"]} == {
        (size, image) for size in ("1280x720", "512x512", "328x328") for image in ("PNG", "JPG")
    }
    assert [load["kind"] for load in report["sessions"]] == ["idle", "speaking"]
    for hop in (report["hop"], report["raw_hop"]):
        assert hop["round_trip_ms"] > hop["of_which_server_ms"] > 0
        assert hop["hop_of_claim"] == pytest.approx(hop["hop_ms"] / 2)
    assert report["hop"]["request_bytes"] < 34_000
    assert report["raw_hop"]["request_bytes"] > 2_490_000
    assert [(link["encoding"], link["raw"]) for link in report["link"]] == [
        ("FLOAT32", True), ("FLOAT32", False), ("FLOAT16", False), ("UINT8", False), ("JPEG", False),
    ]  # fmt: skip
    several = report["several"]
    turns = {(row["models"], row["room_for"]): row for row in several["turns"]}
    assert set(turns) == {(1, 4), (2, 4), (4, 4), (4, 3)}
    # Nobody is ever there when his turn comes, against loads once and for all.
    assert turns[4, 3]["loads_per_frame"] > 0.75
    assert turns[4, 4]["loads_per_frame"] == 0
    assert several["memory"]["each_further_bytes"]["median"] > 40_000_000
    assert several["swap"]["load_ms"]["low"] > 0
    steps = {found["name"]: found for found in report["audio"]["steps"]}
    assert {"resample", "voice activity", "mel", "opus", "encoder hop, batches of 16"} <= set(steps)
    first = report["audio"]["first"]
    assert (first is not None) == (importlib.util.find_spec("espeakng_loader") is not None)
    assert first is None or 0 < first["samples_ms"] < first["tick_ms"]
    assert all(found["of_real_time"] == pytest.approx(found["ms_per_s"] / 1000) for found in steps.values())
