"""The load side: holders that take turns, each with a connection, a lease and a watch of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from loadtest.launched import SiteError
from loadtest.relay.stats import Quantiles, quantiles
from streamkit.wire.pb import modelops_pb2 as pb
from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsStub

if TYPE_CHECKING:
    # The generated module has it for type checkers only.
    from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsAsyncStub

__all__ = ["handshakes_async", "handshakes_sync", "hold_many"]

_MS = 1_000.0
#: Else gRPC gives all of them one connection.
_OWN = [("grpc.use_local_subchannel_pool", 1)]
_IN_FLIGHT = 32
_BATCH = 500


def _ask(client: str, mb: int = 1, ttl_s: int = 60) -> pb.GpuLeaseRequest:
    return pb.GpuLeaseRequest(client=client, model_name="bench", vram_estimate_mb=mb, priority=2, ttl_seconds=ttl_s)


def _granted(reply: pb.GpuLeaseReply) -> str:
    if not reply.granted:
        raise SiteError(f"a lease was refused: {reply.reason}")
    return reply.lease_id


def handshakes_sync(address: str, *, holders: int, count: int, rate: float) -> Quantiles:
    """Return milliseconds for an acquire over synchronous stubs, `rate` a second in turns over all holders.

    Args:
        address: `host:port`.
        holders: connections, each of which holds a lease besides.
        count: acquires that are measured.
        rate: acquires a second.
    """
    channels = [grpc.insecure_channel(address, options=_OWN) for _ in range(holders)]
    try:
        stubs = [ModelOpsStub(channel) for channel in channels]
        held = [_granted(stub.AcquireGpuLease(_ask(f"holder-{place}"))) for place, stub in enumerate(stubs)]
        taken: list[float] = []
        due = time.perf_counter()
        for turn in range(count + holders):
            stub = stubs[turn % holders]
            due += 1 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            reply = stub.AcquireGpuLease(_ask("bench"))
            # The first turn of each warms its connection.
            if turn >= holders:
                taken.append(time.perf_counter() - begun)
            stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=_granted(reply)))
        for stub, lease_id in zip(stubs, held, strict=True):
            stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease_id))
    finally:
        for channel in channels:
            channel.close()
    return _quantiles(taken)


async def handshakes_async(address: str, *, holders: int, count: int, rate: float) -> Quantiles:
    """Return the same over asynchronous stubs; every holder watches its own lease meanwhile."""
    channels = [aio.insecure_channel(address, options=_OWN) for _ in range(holders)]
    watching: list[asyncio.Task[None]] = []
    try:
        stubs: list[ModelOpsAsyncStub] = [ModelOpsStub(channel) for channel in channels]
        held = [_granted(await stub.AcquireGpuLease(_ask(f"holder-{place}"))) for place, stub in enumerate(stubs)]
        watching = [asyncio.create_task(_watch(stub, lease_id)) for stub, lease_id in zip(stubs, held, strict=True)]
        taken: list[float] = []
        due = time.perf_counter()
        for turn in range(count + holders):
            stub = stubs[turn % holders]
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            reply = await stub.AcquireGpuLease(_ask("bench"))
            if turn >= holders:
                taken.append(time.perf_counter() - begun)
            await stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=_granted(reply)))
        for stub, lease_id in zip(stubs, held, strict=True):
            await stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease_id))
        await asyncio.gather(*watching)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for channel in channels:
            await channel.close()
    return _quantiles(taken)


async def hold_many(
    address: str, *, leases: int, churn: int, rss: Callable[[], int], say: Callable[[str], None]
) -> tuple[int, int, int, int, Quantiles]:
    """Hold many leases, then churn beside them.

    Args:
        address: `host:port`.
        leases: how many are held at a time.
        churn: further leases that come and go meanwhile.
        rss: reads the arbiter's resident bytes.
        say: takes lines of progress.

    Returns:
        The arbiter's resident bytes before, with all leases, after two churns that fill what is bounded, and
        after two more; milliseconds for an acquire beside all of them, one at a time.
    """
    async with aio.insecure_channel(address) as channel:
        stub: ModelOpsAsyncStub = ModelOpsStub(channel)
        # Buffers that the first calls make are not the leases'.
        for lease_id in await _many(stub, min(2_000, leases)):
            await stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease_id))
        empty = rss()
        say(f"holding {leases:,} leases …")
        held = await _many(stub, leases)
        full = rss()
        say(f"{churn:,} more come and go, four times …")
        grown: list[int] = []
        for _ in range(4):
            for done in range(0, churn, _BATCH):
                await _release(stub, await _many(stub, min(_BATCH, churn - done)))
            grown.append(rss())
        taken = []
        for _ in range(min(1_000, leases)):
            begun = time.perf_counter()
            reply = await stub.AcquireGpuLease(_ask("bench"))
            taken.append(time.perf_counter() - begun)
            await stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=_granted(reply)))
        await _release(stub, held)
    return empty, full, grown[1], grown[3], _quantiles(taken)


async def _watch(stub: ModelOpsAsyncStub, lease_id: str) -> None:
    async for _ in stub.WatchLease(pb.WatchLeaseRequest(lease_id=lease_id)):
        continue


async def _many(stub: ModelOpsAsyncStub, count: int) -> list[str]:
    """Acquire many leases, a few at a time."""
    found: list[str] = []
    for begin in range(0, count, _IN_FLIGHT):
        some = range(begin, min(count, begin + _IN_FLIGHT))
        replies = await asyncio.gather(
            *(stub.AcquireGpuLease(_ask(f"many-{place % 97}", ttl_s=3_600)) for place in some)
        )
        found += [_granted(reply) for reply in replies]
    return found


async def _release(stub: ModelOpsAsyncStub, leases: list[str]) -> None:
    for begin in range(0, len(leases), _IN_FLIGHT):
        some = leases[begin : begin + _IN_FLIGHT]
        await asyncio.gather(*(stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease_id)) for lease_id in some))


def _quantiles(seconds: list[float]) -> Quantiles:
    found = quantiles([value * _MS for value in seconds])
    if found is None:
        raise SiteError("nothing was measured")
    return found
