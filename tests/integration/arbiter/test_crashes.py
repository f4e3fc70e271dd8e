"""Nothing lost, nothing doubled: 200 crashes of the ledger at named points, `kill -9` of the service under load."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from streamkit.wire.pb import modelops_pb2 as pb
from tests.support.arbiter import ArbiterProcess, arbiter
from tests.support.needs import program
from tests.support.processes import until

ROOT = Path(__file__).parents[3]


def crashes(folder: Path, count: int, seed: int) -> dict[str, int]:
    line = [sys.executable, "-m", "tests.support.ledger_crashes", str(folder), str(count), str(seed)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    points: dict[str, int] = ast.literal_eval(done.stdout.rpartition("}")[0] + "}")
    return points


def test_twenty_crashes_at_every_named_point_lose_and_double_nothing(tmp_path: Path):
    assert set(crashes(tmp_path, 20, 1_000).values()) == {4}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_crashes_lose_and_double_nothing(tmp_path: Path):
    assert sum(crashes(tmp_path, 200, 1).values()) == 200


class Load:
    """Clients that acquire and release until the arbiter is gone, and what they were told."""

    def __init__(self, ours: ArbiterProcess) -> None:
        self.held: set[str] = set()
        self.ended: set[str] = set()
        self.unsure: set[str] = set()
        self._stub = ours.stub
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(8)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _work(self, number: int) -> None:
        mine: list[str] = []
        with contextlib.suppress(grpc.RpcError):
            while True:
                request = pb.GpuLeaseRequest(client=f"c{number}", vram_estimate_mb=500, ttl_seconds=600)
                reply = self._stub.AcquireGpuLease(request, timeout=30)
                if reply.granted:
                    mine.append(reply.lease_id)
                    self.held.add(reply.lease_id)
                if not reply.granted or len(mine) > 3:
                    lease = mine.pop(0)
                    self.unsure.add(lease)
                    assert self._stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease), timeout=30).success
                    self.unsure.discard(lease)
                    self.held.discard(lease)
                    self.ended.add(lease)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_under_load_five_times(tmp_path: Path):
    held: set[str] = set()
    settings = "static_gpus_mb = [10_000, 10_000]\nmargin_mb = 0"
    for life in range(5):
        with arbiter(tmp_path, settings, name=f"life-{life}") as ours:
            found = [lease.lease_id for lease in ours.leases()]
            assert len(set(found)) == len(found)
            assert held <= set(found), "lost"
            # A call that was under way may have been written without an answer: it expires by itself.
            for lease in ours.leases():
                ours.release(lease.lease_id)
            load = Load(ours)
            until(lambda load=load: len(load.ended) > 50, ms=60_000, what="load")
            ours.running.process.kill()
            load.join()
            held = load.held - load.unsure
        with arbiter(tmp_path, settings, name=f"check-{life}") as ours:
            after = [lease.lease_id for lease in ours.leases()]
            assert len(set(after)) == len(after), "doubled"
            assert held <= set(after), "lost"
            assert not load.ended & set(after), "a released lease came back"
            assert len(after) <= len(held) + 8, "at most the calls under way"
            for gpu in ours.state().gpus:
                assert gpu.reserved_mb <= gpu.cap_mb
            held = set(after)


PROGRAM = """
import sys, time, threading
from pathlib import Path
from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), Clocks.system())
print("begin", flush=True)
for number in range(400):
    now = time.monotonic()
    ledger.put(Lease(f"lease-{number}", "c", "m", "GPU-0", 1, 2, 30.0, now + 30, now))
    ledger.remove(f"lease-{number - 5}")
    if number % 100 == 99:
        thread = threading.Thread(target=ledger.checkpoint)
        thread.start()
        thread.join()
print("end", flush=True)
"""


@pytest.mark.needs("strace")
def test_the_thread_that_grants_waits_for_no_disk(tmp_path: Path):
    """System calls, not times: between two marks the main thread synchronises nothing, the other one does."""
    trace = tmp_path / "trace"
    line = [
        program("strace"),
        "-f",
        "-o",
        str(trace),
        "-e",
        "trace=fsync,fdatasync,write",
        sys.executable,
        "-c",
        PROGRAM,
    ]
    subprocess.run([*line, str(tmp_path / "ledger")], cwd=ROOT, check=True, timeout=120, capture_output=True)
    lines = trace.read_text().splitlines()
    marks = [place for place, text in enumerate(lines) if '"begin' in text or '"end' in text]
    main = lines[marks[0]].split()[0]
    between = [text.split(maxsplit=1) for text in lines[marks[0] : marks[1]] if "sync(" in text]
    assert [text for thread, text in between if thread == main] == []
    assert [text for thread, text in between if thread != main], "checkpoints do"
