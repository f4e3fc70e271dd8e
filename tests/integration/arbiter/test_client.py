"""The client library against a real arbiter: leases that renew themselves, heed notices and survive a restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core_gpu.lease_client import (
    AsyncLeaseClient,
    LeaseAsk,
    LeaseClient,
    LeaseError,
    LeaseRefused,
    Notice,
    run_leased,
    run_leased_async,
    steps,
)
from tests.support.arbiter import ArbiterProcess, arbiter
from tests.support.processes import until
from tests.support.timing import FACTOR

SETTINGS = "static_gpus_mb = [10_000]\nmargin_mb = 0\nmin_residency_ms = 0\ngrace_ms = 1_500\nreclaim_ms = 200"
ROOT = Path(__file__).parents[3]
ASK = LeaseAsk("tester", 1_000, model="m")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArbiterProcess]:
    with arbiter(tmp_path_factory.mktemp("arbiter"), SETTINGS) as process:
        yield process


@pytest.fixture
def client(ours: ArbiterProcess) -> Iterator[LeaseClient]:
    with LeaseClient(ours.address) as found:
        yield found
    until(lambda: not ours.leases(), what="all leases to be gone")


def test_a_lease_lives_as_long_as_its_block(ours: ArbiterProcess, client: LeaseClient):
    before = threading.active_count()
    with client.acquire(ASK) as lease:
        assert lease.held
        assert (lease.mb, lease.gpu, lease.gpu_index) == (1_000, "static-0", 0)
        (found,) = ours.leases()
        assert found.lease_id == lease.id
        assert list(found.pids)
    assert not lease.held
    assert not lease.lost
    assert ours.leases() == []
    lease.release()
    until(lambda: threading.active_count() <= before, what="the lease's threads to end")


def test_it_renews_itself(ours: ArbiterProcess, client: LeaseClient):
    with client.acquire(replace(ASK, ttl_s=2)) as lease:
        first = ours.leases()[0].age_ms
        until(lambda: ours.leases()[0].age_ms > first + 3_000, what="more than its ttl to pass")
        assert lease.held


def test_a_refusal_is_an_exception_with_figures(client: LeaseClient):
    with client.acquire(replace(ASK, mb=8_000)), pytest.raises(LeaseRefused) as caught:
        client.acquire(replace(ASK, mb=2_000))
    assert (caught.value.code, caught.value.free_mb, caught.value.holder) == ("INSUFFICIENT", 1_000, "tester/m")
    assert 0 < caught.value.retry_after_ms <= 250


def test_an_arbiter_that_is_not_there_is_named():
    with (
        LeaseClient("127.0.0.1:1") as client,
        pytest.raises(LeaseError, match=r"the arbiter at 127\.0\.0\.1:1 does not"),
    ):
        client.acquire(ASK)


def test_a_notice_reaches_the_holder_which_gives_way(client: LeaseClient):
    notices: list[Notice] = []
    lease = client.acquire(replace(ASK, mb=9_000, priority=9), on_notice=notices.append)
    giver = threading.Thread(target=lambda: (until(lambda: notices), lease.release()))
    giver.start()
    with client.acquire(replace(ASK, mb=5_000, priority=1, wait_s=20)):
        giver.join()
    assert notices[0].reason == "tester needs 5000 MiB at priority 1"
    assert 0 < notices[0].leave_s <= 1.5


def test_a_holder_that_ignores_its_notice_is_told_that_it_lost(client: LeaseClient):
    lost: list[str] = []
    notices: list[Notice] = []
    lease = client.acquire(replace(ASK, mb=9_000, priority=9, pids=()), on_notice=notices.append, on_lost=lost.append)
    with pytest.raises(LeaseRefused) as caught:
        client.acquire(replace(ASK, mb=5_000, priority=1, wait_s=3))
    assert caught.value.code == "TIMEOUT"
    until(lambda: lost, what="the loss to be told")
    assert lost == [lease.lost] == ["the notice was ignored"]
    assert not lease.held
    lease.release()


def test_without_a_callback_nobody_is_asked(ours: ArbiterProcess, client: LeaseClient):
    with client.acquire(replace(ASK, mb=9_000, priority=9)), pytest.raises(LeaseRefused):
        client.acquire(replace(ASK, mb=5_000, priority=1, wait_s=0.2))


def test_loaded_memory_is_counted_once(ours: ArbiterProcess, client: LeaseClient):
    with client.acquire(ASK) as lease:
        assert (ours.state().gpus[0].used_mb, ours.state().gpus[0].pending_mb) == (0, 1_000)
        lease.loaded()
        assert (ours.state().gpus[0].used_mb, ours.state().gpus[0].pending_mb) == (1_000, 0)


@pytest.mark.slow
def test_a_lease_outlives_a_restart_of_the_arbiter(tmp_path: Path):
    # Long enough for a slow machine to start an arbiter.
    ttl_s = round(3 * max(1, FACTOR))
    with arbiter(tmp_path, SETTINGS) as first:
        client = LeaseClient(first.address)
        lease = client.acquire(replace(ASK, ttl_s=ttl_s))
        port = int(first.address.rpartition(":")[2])
        first.running.process.kill()
        first.running.wait()
    with arbiter(tmp_path, SETTINGS, name="second", port=port) as second, client:
        age = second.leases()[0].age_ms
        until(
            lambda: second.leases() and second.leases()[0].age_ms > age + (ttl_s + 1) * 1_000,
            ms=20_000,
            what="renewals",
        )
        assert lease.held
        lease.release()
        assert second.leases() == []


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def test_out_of_memory_gives_back_and_tries_smaller(ours: ArbiterProcess, client: LeaseClient):
    tried = []

    def work(lease, ask: LeaseAsk) -> str:
        tried.append((ask.mb, ask.precision, ours.state().gpus[0].reserved_mb))
        if ask.precision != "int8":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return "done"

    policy = steps((4_000, "fp16"), (2_000, "int8"))
    assert run_leased(client, replace(ASK, mb=8_000, precision="fp32"), work, on_oom=policy) == "done"
    # Each try had its lease and no other: the one before was given back.
    assert tried == [(8_000, "fp32", 8_000), (4_000, "fp16", 4_000), (2_000, "int8", 2_000)]


def test_a_policy_that_gives_up_leaves_the_error(ours: ArbiterProcess, client: LeaseClient):
    def work(lease, ask: LeaseAsk) -> None:
        raise OutOfMemoryError

    with pytest.raises(OutOfMemoryError):
        run_leased(client, ASK, work, on_oom=steps((500, "int8")))
    assert ours.leases() == []


def test_another_error_is_not_tried_again(client: LeaseClient):
    calls = []

    def work(lease, ask: LeaseAsk) -> None:
        calls.append(ask)
        raise ValueError("a wrong shape")

    with pytest.raises(ValueError, match="a wrong shape"):
        run_leased(client, ASK, work, on_oom=steps((500, "int8")))
    assert len(calls) == 1


def test_the_asynchronous_client_does_the_same(ours: ArbiterProcess):
    async def body() -> None:
        async with AsyncLeaseClient(ours.address) as client:
            async with await client.acquire(replace(ASK, ttl_s=2)) as lease:
                await asyncio.sleep(3)
                assert lease.held
                await lease.loaded()
                assert ours.state().gpus[0].used_mb == 1_000
            assert not lease.held
            with pytest.raises(LeaseRefused):
                await client.acquire(replace(ASK, mb=10_000))

            noticed: asyncio.Future[Notice] = asyncio.get_running_loop().create_future()
            low = await client.acquire(replace(ASK, mb=9_000, priority=9), on_notice=noticed.set_result)
            waiting = asyncio.create_task(client.acquire(replace(ASK, mb=5_000, priority=1, wait_s=20)))
            assert (await asyncio.wait_for(noticed, 10 * FACTOR)).leave_s <= 1.5
            await low.release()
            await (await waiting).release()

            lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            gone = await client.acquire(
                replace(ASK, mb=9_000, priority=9, pids=()), on_notice=lambda _: None, on_lost=lost.set_result
            )
            with pytest.raises(LeaseRefused):
                await client.acquire(replace(ASK, mb=5_000, priority=1, wait_s=3))
            assert await asyncio.wait_for(lost, 10 * FACTOR) == "the notice was ignored"
            await gone.release()

            tried: list[int] = []

            async def work(_lease: object, ask: LeaseAsk) -> int:
                tried.append(ask.mb)
                if ask.mb > 2_000:
                    raise MemoryError
                return ask.mb

            assert await run_leased_async(client, replace(ASK, mb=8_000), work, on_oom=steps((2_000, ""))) == 2_000
            assert tried == [8_000, 2_000]

    asyncio.run(body())
    until(lambda: not ours.leases(), what="all leases to be gone")


def test_a_client_that_dies_leaves_a_lease_that_comes_back(ours: ArbiterProcess):
    program = (
        "import os, sys\n"
        "from core_gpu.lease_client import LeaseAsk, LeaseClient\n"
        "LeaseClient(sys.argv[1]).acquire(LeaseAsk('dying', 9_000, ttl_s=1))\n"
        "print('held', flush=True)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ours.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "held\n", done.stderr
    until(lambda: ours.acquire(9_000, client="next", ttl_seconds=1).granted, what="the dead client's memory")
    until(lambda: not ours.leases(), what="all leases to be gone")
