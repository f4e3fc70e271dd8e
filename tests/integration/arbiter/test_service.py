"""The arbiter at its door: a real process, real gRPC, real SQLite."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from streamkit.wire.pb import modelops_pb2 as pb
from tests.support.arbiter import ArbiterProcess, arbiter
from tests.support.processes import until

QUICK = """
static_gpus_mb = [10_000, 20_000]
margin_mb = 0
grace_ms = 100
make_room_ms = 100
min_residency_ms = 0
reclaim_ms = 400
max_waiting = 2000
"""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArbiterProcess]:
    with arbiter(tmp_path_factory.mktemp("arbiter"), QUICK) as process:
        yield process


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "ours" in request.fixturenames:
        process = request.getfixturevalue("ours")
        for lease in process.leases():
            process.release(lease.lease_id)
        until(lambda: not process.leases(), what="all leases to be gone")
        assert process.state().waiting == 0
        assert {gpu.pending_mb for gpu in process.state().gpus} == {0}


def test_a_lease_goes_where_it_fits_best_and_says_how_long_it_lasts(ours: ArbiterProcess):
    reply = ours.acquire(4_000, ttl_seconds=60)
    assert reply.granted
    assert (reply.vram_reserved_mb, reply.gpu_index, reply.gpu) == (4_000, 0, "static-0")
    assert 59_000 <= reply.expires_in_ms <= 60_000
    assert ours.acquire(9_001).gpu_index == 1
    assert ours.acquire(1, gpu="1").gpu_index == ours.acquire(1, gpu="static-1").gpu_index == 1


def test_a_refusal_says_what_is_missing_and_who_has_it(ours: ArbiterProcess):
    ours.acquire(8_000, client="big", model_name="llm", gpu="0")
    reply = ours.acquire(2_000, gpu="0")
    assert not reply.granted
    assert (reply.code, reply.free_mb, reply.needed_mb) == (pb.REFUSAL_INSUFFICIENT, 1_000, 2_000)
    assert reply.holder == "big/llm"
    assert reply.reason.startswith("Insufficient VRAM")
    assert 0 < reply.retry_after_ms <= 250


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"vram_estimate_mb": 0}, pb.REFUSAL_INVALID, "vram_estimate_mb: expected 1 to"),
        ({"vram_estimate_mb": -5}, pb.REFUSAL_INVALID, "vram_estimate_mb: expected 1 to"),
        ({"vram_estimate_mb": 2**62}, pb.REFUSAL_INVALID, "vram_estimate_mb: expected 1 to"),
        ({"vram_estimate_mb": 18_001}, pb.REFUSAL_NEVER_FITS, "the most that one could give is 18000 MiB"),
        ({"gpu": "7"}, pb.REFUSAL_UNKNOWN_GPU, "gpu: there is no '7' here"),
        ({"priority": 10}, pb.REFUSAL_INVALID, "priority: expected 1 to 9"),
        ({"priority": -1}, pb.REFUSAL_INVALID, "priority: expected 1 to 9"),
        ({"ttl_seconds": -1}, pb.REFUSAL_INVALID, "ttl_seconds: expected 0 to 86400"),
        ({"ttl_seconds": 2**31 - 1}, pb.REFUSAL_INVALID, "ttl_seconds: expected 0 to 86400"),
        ({"wait_ms": -1}, pb.REFUSAL_INVALID, "wait_ms: expected 0 to 600000"),
        ({"client": "x" * 300}, pb.REFUSAL_INVALID, "client: expected at most 256 characters, got 300"),
        ({"pids": [0]}, pb.REFUSAL_INVALID, "pids: expected process ids above 0"),
        ({"pids": range(1, 100)}, pb.REFUSAL_INVALID, "pids: expected at most 64, got 99"),
    ],
)
def test_bad_input_names_the_field_and_the_limit(ours: ArbiterProcess, fields, code, words):
    reply = ours.acquire(fields.pop("vram_estimate_mb", 100), **fields)
    assert not reply.granted
    assert reply.code == code
    assert words in reply.reason
    assert reply.retry_after_ms == 0


def test_a_message_without_bounds_is_refused_by_the_transport(ours: ArbiterProcess):
    with pytest.raises(grpc.RpcError) as caught:
        ours.acquire(1, client="x" * 100_000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_released_twice_is_fine_and_never_issued_is_not(ours: ArbiterProcess):
    lease = ours.acquire(100).lease_id
    assert ours.release(lease)
    assert ours.release(lease)
    forged = lease[:-1] + ("0" if lease[-1] != "0" else "1")
    for never in (forged, "", "1700000000000_agent", "f" * 32 + "-" + "0" * 16):
        assert not ours.release(never)


def test_a_renewal_extends_and_tells_what_became_of_a_lease(ours: ArbiterProcess):
    lease = ours.acquire(100, ttl_seconds=5).lease_id
    reply = ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=lease, ttl_seconds=100))
    assert reply.renewed
    assert 99_000 <= reply.expires_in_ms <= 100_000
    ours.release(lease)
    assert ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=lease)).code == pb.REFUSAL_ENDED
    assert ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id="x")).code == pb.REFUSAL_UNKNOWN_LEASE


def test_what_is_not_renewed_comes_back(ours: ArbiterProcess):
    lease = ours.acquire(100, ttl_seconds=1).lease_id
    events = [event.state for event in ours.stub.WatchLease(pb.WatchLeaseRequest(lease_id=lease), timeout=10)]
    assert events == [pb.LEASE_STATE_GRANTED, pb.LEASE_STATE_RECLAIMING, pb.LEASE_STATE_RECLAIMED]
    assert ours.release(lease)


def test_processes_that_live_keep_an_expired_lease_until_the_deadline(ours: ArbiterProcess):
    lease = ours.acquire(9_000, ttl_seconds=1, pids=[os.getpid()], gpu="0").lease_id
    watch = ours.stub.WatchLease(pb.WatchLeaseRequest(lease_id=lease), timeout=10)
    states = []
    for event in watch:
        states.append(event.state)
        if event.state == pb.LEASE_STATE_RECLAIMING:
            assert ours.acquire(1, gpu="0").code == pb.REFUSAL_INSUFFICIENT
            assert ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=lease)).code == pb.REFUSAL_RECLAIMING
    assert states[-2:] == [pb.LEASE_STATE_RECLAIMING, pb.LEASE_STATE_UNLEASED]
    assert ours.acquire(1, gpu="0").granted


def test_a_waiting_request_is_granted_when_room_comes(ours: ArbiterProcess):
    first = ours.acquire(9_000, gpu="0").lease_id
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ours.acquire, 5_000, gpu="0", wait_ms=20_000)
        until(lambda: ours.state().waiting == 1, what="a waiter")
        assert not ours.acquire(1, gpu="0").granted, "nobody overtakes"
        ours.release(first)
        assert waiting.result().granted


def test_waiting_ends_in_a_refusal_that_says_so(ours: ArbiterProcess):
    ours.acquire(9_000, gpu="0")
    reply = ours.acquire(5_000, gpu="0", wait_ms=50)
    assert reply.code == pb.REFUSAL_TIMEOUT
    assert reply.reason.startswith("waited 0.05 s: Insufficient VRAM")


def test_a_client_that_leaves_the_line_is_forgotten(ours: ArbiterProcess):
    ours.acquire(9_000, gpu="0")
    call = ours.stub.AcquireGpuLease.future(
        pb.GpuLeaseRequest(client="gone", vram_estimate_mb=5_000, gpu="0", wait_ms=60_000)
    )
    until(lambda: ours.state().waiting == 1, what="a waiter")
    call.cancel()
    until(lambda: ours.state().waiting == 0, what="an empty line")


def test_one_lease_of_an_exclusive_group_at_a_time(ours: ArbiterProcess):
    first = ours.acquire(100, exclusive_group="six-gigabytes", client="vision")
    second = ours.acquire(100, exclusive_group="six-gigabytes", gpu="1")
    assert (second.code, second.holder) == (pb.REFUSAL_GROUP_HELD, "vision/m")
    ours.release(first.lease_id)
    assert ours.acquire(100, exclusive_group="six-gigabytes").granted


def test_a_noticed_holder_gives_way_to_a_higher_priority(ours: ArbiterProcess):
    low = ours.acquire(9_000, gpu="0", priority=8, preemptible=True).lease_id
    watch = ours.stub.WatchLease(pb.WatchLeaseRequest(lease_id=low), timeout=20)
    assert next(watch).state == pb.LEASE_STATE_GRANTED
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        high = pool.submit(ours.acquire, 5_000, gpu="0", priority=1, wait_ms=20_000, client="urgent")
        notice = next(watch)
        assert notice.state == pb.LEASE_STATE_NOTICED
        assert 0 < notice.leave_in_ms <= 100
        assert notice.reason == "urgent needs 5000 MiB at priority 1"
        ours.release(low)
        assert high.result().granted


def test_a_holder_that_ignores_its_notice_is_fenced_and_its_memory_stays_taken(ours: ArbiterProcess):
    low = ours.acquire(9_000, gpu="0", priority=8, preemptible=True, pids=[os.getpid()]).lease_id
    reply = ours.acquire(5_000, gpu="0", priority=1, wait_ms=300)
    assert reply.code == pb.REFUSAL_TIMEOUT
    renewal = ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=low))
    assert renewal.code == pb.REFUSAL_FENCED
    assert "stop using the memory" in renewal.reason
    # Who begins to watch only now is told why as well.
    late = next(ours.stub.WatchLease(pb.WatchLeaseRequest(lease_id=low), timeout=20))
    assert (late.state, late.reason) == (pb.LEASE_STATE_FENCED, "the notice was ignored")


def test_equal_priority_takes_nothing_away(ours: ArbiterProcess):
    low = ours.acquire(9_000, gpu="0", priority=5, preemptible=True).lease_id
    assert ours.acquire(5_000, gpu="0", priority=5, wait_ms=100).code == pb.REFUSAL_TIMEOUT
    assert ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=low)).state == pb.LEASE_STATE_GRANTED


def test_a_start_up_freezes_its_gpu_and_no_other(ours: ArbiterProcess):
    lease = ours.acquire(2_000, gpu="0").lease_id
    begun = ours.stub.BeginStartup(pb.BeginStartupRequest(client="vllm", lease_ids=[lease]))
    assert begun.begun
    assert list(begun.gpus) == ["static-0"]
    frozen = ours.acquire(10, gpu="0")
    assert (frozen.code, frozen.holder) == (pb.REFUSAL_FROZEN, "vllm")
    assert ours.acquire(10, gpu="1").granted
    assert ours.state().gpus[0].startup_client == "vllm"
    second = ours.stub.BeginStartup(pb.BeginStartupRequest(client="other", lease_ids=[lease]))
    assert (second.code, second.holder) == (pb.REFUSAL_FROZEN, "vllm")
    assert ours.stub.EndStartup(pb.EndStartupRequest(startup_id=begun.startup_id, healthy=True)).success
    assert not ours.stub.EndStartup(pb.EndStartupRequest(startup_id=begun.startup_id)).success
    assert ours.acquire(10, gpu="0").granted


def test_a_start_up_needs_its_memory_first(ours: ArbiterProcess):
    reply = ours.stub.BeginStartup(pb.BeginStartupRequest(client="vllm", lease_ids=["nothing"]))
    assert reply.code == pb.REFUSAL_UNKNOWN_LEASE
    assert "acquire the memory first" in reply.reason
    assert ours.stub.BeginStartup(pb.BeginStartupRequest()).code == pb.REFUSAL_INVALID


def test_start_ups_wait_for_each_other(ours: ArbiterProcess):
    both = [ours.acquire(10, gpu=gpu).lease_id for gpu in ("1", "0")]
    first = ours.stub.BeginStartup(pb.BeginStartupRequest(client="a", lease_ids=both))
    assert list(first.gpus) == ["static-0", "static-1"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pb.BeginStartupRequest(client="b", lease_ids=both, wait_ms=20_000, deadline_ms=50)
        second = pool.submit(ours.stub.BeginStartup, asked)
        time.sleep(0)
        ours.stub.EndStartup(pb.EndStartupRequest(startup_id=first.startup_id))
        assert second.result().begun
    until(lambda: ours.acquire(1, gpu="0").granted, what="the deadline to lower the barrier")


def test_a_thousand_clients_at_once(ours: ArbiterProcess):
    """They ask for more than there is: what is granted fits, everybody gets an answer, and all of it comes back."""
    granted: list[str] = []
    lock = threading.Lock()
    calls = [
        ours.stub.AcquireGpuLease.future(pb.GpuLeaseRequest(client=f"c{number}", vram_estimate_mb=100))
        for number in range(1_000)
    ]
    for call in calls:
        reply = call.result(timeout=60)
        with lock:
            if reply.granted:
                granted.append(reply.lease_id)
            else:
                assert reply.code == pb.REFUSAL_INSUFFICIENT
    assert len(set(granted)) == len(granted) == 270
    assert [gpu.free_mb for gpu in ours.state().gpus] == [0, 0]


def test_it_lists_and_counts(ours: ArbiterProcess):
    lease = ours.acquire(700, client="lister", model_name="m1", priority=3, gpu="1").lease_id
    ours.stub.RenewGpuLease(pb.GpuLeaseRenewal(lease_id=lease, loaded=True))
    (found,) = ours.stub.ListLeases(pb.ListLeasesRequest(client="lister")).leases
    assert (found.model_name, found.priority, found.loaded, found.vram_used_mb) == ("m1", 3, True, 700)
    assert not ours.stub.ListLeases(pb.ListLeasesRequest(gpu="0")).leases
    gpu = ours.state().gpus[1]
    assert (gpu.total_mb, gpu.cap_mb, gpu.reserved_mb, gpu.used_mb, gpu.free_mb) == (20_000, 18_000, 700, 700, 17_300)
    with urllib.request.urlopen(f"{ours.ready['ops_url']}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    assert 'headrace_leases{state="granted"} 1.0' in page
    assert 'headrace_gpu_memory_bytes{gpu="1",what="reserved"} 7.340032e+08' in page
    with urllib.request.urlopen(f"{ours.ready['ops_url']}/readyz", timeout=5) as answer:
        assert json.load(answer)["ready"]


def test_a_second_arbiter_on_the_same_ledger_or_port_is_told(ours: ArbiterProcess, tmp_path: Path):
    state = ours.running.log.parent / "state"
    line = [sys.executable, "-m", "launch", "arbiter", "--ops-port", "0"]
    done = subprocess.run(
        [*line, "--port", "0", "--state-dir", state], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "another arbiter uses this ledger" in done.stderr
    port = ours.address.rpartition(":")[2]
    done = subprocess.run(
        [*line, "--port", port, "--state-dir", tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"arbiter: cannot listen on 127.0.0.1:{port}" in done.stderr


def test_it_stops_at_once_and_tells_who_waits_and_watches(tmp_path: Path):
    with arbiter(tmp_path, QUICK) as ours:
        lease = ours.acquire(9_000, gpu="0").lease_id
        watch = ours.stub.WatchLease(pb.WatchLeaseRequest(lease_id=lease))
        assert next(watch).state == pb.LEASE_STATE_GRANTED
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ours.acquire, 5_000, gpu="0", wait_ms=60_000)
            until(lambda: ours.state().waiting == 1, what="a waiter")
            ours.running.send(signal.SIGTERM)
            assert waiting.result().code == pb.REFUSAL_DRAINING
        with pytest.raises(grpc.RpcError) as caught:
            list(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ours.running.wait() == 0
    with arbiter(tmp_path, QUICK, name="second") as after:
        assert [found.lease_id for found in after.leases()] == [lease]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('host = "0.0.0.0"', "needs mutual TLS: set tls_cert_file, tls_key_file, tls_client_ca_file"),
        ('tls_cert_file = "a.pem"', "tls_key_file: required beside"),
        ('inventory = "nvml"', "NVIDIA's driver does not answer"),
    ],
)
def test_what_cannot_run_says_why(tmp_path: Path, settings: str, words: str):
    if "nvml" in settings and Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    with pytest.raises(AssertionError, match=words), arbiter(tmp_path, settings):
        pass
