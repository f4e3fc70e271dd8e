"""`headrace leases` and `headrace bench lease` against a real arbiter."""

from __future__ import annotations

import json
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from streamkit.wire.pb import modelops_pb2 as pb
from tests.support.arbiter import ArbiterProcess, arbiter
from tests.support.terminal import GIVEN_BACK, terminal


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArbiterProcess]:
    with arbiter(tmp_path_factory.mktemp("arbiter"), "static_gpus_mb = [24_000, 6_144]") as process:
        yield process


def headrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "launch", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_leases_are_shown_and_given_back(ours: ArbiterProcess):
    lease = ours.acquire(9_000, client="agent", model_name="llm-with-a-name-that-is-far-too-long-for-a-line" * 2)
    ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=lease.lease_id, loaded=True))
    shown = headrace("leases", "--address", ours.address)
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "9,000 of 21,600 MiB to lend, 12,344 free" in shown.stdout
    (row,) = [line for line in shown.stdout.splitlines() if lease.lease_id[:12] in line]
    assert row.split()[2:8] == ["0", "9,000", "9,000", "2", "granted", row.split()[7]]
    assert "\x1b" not in shown.stdout

    # A wider terminal has room for more of the name.
    with terminal("leases", "--address", ours.address, columns=120) as wide:
        assert wide.ended() == 0
        (there,) = [line for line in wide.lines() if lease.lease_id[:12] in line]
    assert len(row) == 80 < len(there) == 120

    found = json.loads(headrace("leases", "--address", ours.address, "--json").stdout)
    assert found["leases"][0]["lease_id"] == lease.lease_id

    unknown = headrace("leases", "--address", ours.address, "release", "zzz")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "headrace leases: no lease begins with 'zzz'; headrace leases shows them\n",
    )
    given = headrace("leases", "--address", ours.address, "release", lease.lease_id[:8])
    assert given.stdout.startswith("released 9,000 MiB of agent/llm")
    assert ours.leases() == []


@pytest.mark.parametrize(("keys", "status"), [(b"q", 0), (b"\x03", 130)], ids=["q", "ctrl-c"])
def test_leases_are_watched_on_the_terminals_other_screen(ours: ArbiterProcess, keys: bytes, status: int):
    with terminal("leases", "--address", ours.address, "watch", "--every-ms", "100") as watch:
        watch.shows("no leases")
        lease = ours.acquire(9_000, client="agent")
        assert "agent" in watch.shows(lease.lease_id[:12])
        ours.stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease.lease_id))
        watch.shows("no leases")
        watch.press(keys)
        assert watch.ended() == status
        assert termios.tcgetattr(watch.fd) == watch.before
        assert watch.written.startswith("\x1b[?1049h")
        assert watch.written.endswith(GIVEN_BACK[0])
        assert "Traceback" not in watch.written


@pytest.mark.slow
def test_no_arbiter_is_one_line():
    done = headrace("leases", "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr == (
        "headrace leases: no arbiter answers at 127.0.0.1:1: is it running? --address says where else\n"
    )


def test_a_mistake_is_one_line():
    done = headrace("leases", "relase")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.alone
@pytest.mark.slow
def test_the_benchmark_runs_and_prints_json():
    done = headrace("bench", "lease", "--holders", "4", "--count", "21", "--leases", "100", "--rate", "100")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "headrace.bench.lease/2"
    for kind in ("sync_acquire", "async_acquire"):
        counts = {one["count"] for server in ("arbiter_ms", "echo_ms") for one in report[kind][server]}
        assert counts == {7}, "in three rounds"
        assert report[kind]["p50_ratio"]["low"] > 0
    assert report["held"]["leases"] == 100
