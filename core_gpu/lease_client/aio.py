"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
from grpc import aio

from core_gpu.lease_client.words import (
    CHANNEL_OPTIONS,
    RENEW_TIMEOUT_S,
    ClientTls,
    Held,
    LeaseAsk,
    LeaseError,
    LeaseRefused,
    Notice,
    OnLost,
    OnNotice,
)
from streamkit.ops import log
from streamkit.wire.pb import modelops_pb2 as pb
from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsStub

if TYPE_CHECKING:
    # The generated module has it for type checkers only.
    from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsAsyncStub

__all__ = ["AsyncLease", "AsyncLeaseClient"]

_log = logging.getLogger(__name__)


class AsyncLeaseClient:
    """Asks one arbiter for leases, within one event loop.

    Args:
        address: `host:port`.
        tls: None = in the clear, which an arbiter offers on loopback only.
    """

    def __init__(self, address: str = "127.0.0.1:50051", *, tls: ClientTls | None = None) -> None:
        if tls is None:
            self._channel = aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = aio.secure_channel(address, tls.credentials(), options=CHANNEL_OPTIONS)
        self._address = address
        self.stub: ModelOpsAsyncStub = ModelOpsStub(self._channel)

    async def acquire(
        self, ask: LeaseAsk, *, on_notice: OnNotice | None = None, on_lost: OnLost | None = None
    ) -> AsyncLease:
        """Return a lease that renews itself until it is released.

        Args:
            ask: what for.
            on_notice: makes the lease one that may be pre-empted; called on the event loop.
            on_lost: called on the event loop when the lease is no longer honoured.

        Raises:
            LeaseRefused: the arbiter said no.
            LeaseError: it does not answer.
        """
        try:
            reply = await self.stub.AcquireGpuLease(
                ask.message(preemptible=on_notice is not None), timeout=ask.wait_s + RENEW_TIMEOUT_S
            )
        except aio.AioRpcError as error:
            raise LeaseError(f"the arbiter at {self._address} does not answer: {error.details()}") from None
        if not reply.granted:
            raise LeaseRefused(reply)
        return AsyncLease(self.stub, Held.of(reply, ask), on_notice, on_lost)

    async def close(self) -> None:
        """Close the connection; leases that were not released expire."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncLease:
    """Memory that is ours until `release`; an asynchronous context manager. Made by `AsyncLeaseClient.acquire`."""

    def __init__(
        self, stub: ModelOpsAsyncStub, held: Held, on_notice: OnNotice | None, on_lost: OnLost | None
    ) -> None:
        self._stub = stub
        self._held = held
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._released = False
        self._tasks = [asyncio.create_task(self._renew(), name=f"renew {held.id[:8]}")]
        if on_notice is not None:
            self._tasks.append(asyncio.create_task(self._follow(), name=f"watch {held.id[:8]}"))

    @property
    def id(self) -> str:
        """The lease's id; whoever has it may renew and release."""
        return self._held.id

    @property
    def gpu(self) -> str:
        """UUID of its GPU, as `CUDA_VISIBLE_DEVICES` takes it."""
        return self._held.gpu

    @property
    def gpu_index(self) -> int:
        """Its GPU's place in the arbiter's list."""
        return self._held.gpu_index

    @property
    def mb(self) -> int:
        """MiB that it reserves."""
        return self._held.mb

    @property
    def held(self) -> bool:
        """Whether the memory may be used."""
        return not self._held.lost and not self._released and time.monotonic() < self._held.expires_s

    @property
    def lost(self) -> str:
        """Why the lease is no longer honoured; empty = it is, or was released by us."""
        return self._held.lost

    async def loaded(self) -> None:
        """Tell the arbiter that the memory is taken, so that it counts it once and not twice.

        Raises:
            LeaseError: the arbiter does not answer; the next renewal tells it.
        """
        self._held.loaded = True
        try:
            await self._renew_once()
        except aio.AioRpcError as error:
            raise LeaseError(f"the arbiter does not answer: {error.details()}") from None

    async def release(self) -> None:
        """Give the memory back; once more does nothing. If the arbiter cannot be told, the lease expires."""
        if self._released:
            return
        self._released = True
        here = asyncio.current_task()
        others = [task for task in self._tasks if task is not here]
        for task in others:
            task.cancel()
        try:
            await self._stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=self._held.id), timeout=RENEW_TIMEOUT_S)
        except aio.AioRpcError as error:
            log.event(_log, "lease.release_failed", level=logging.WARNING, lease=self.id[:8], why=error.details())
        await asyncio.gather(*others, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    async def _renew(self) -> None:
        pause_s = self._held.renew_s
        while not self._held.lost:
            await asyncio.sleep(pause_s)
            try:
                await self._renew_once()
                pause_s = self._held.renew_s
            except aio.AioRpcError:
                # Until it is over there is time to reach the arbiter again, or the next one on its ledger.
                pause_s = min(1.0, self._held.renew_s)
                if time.monotonic() >= self._held.expires_s:
                    self._take("the arbiter could not be reached in time")

    async def _renew_once(self) -> None:
        asked_s = time.monotonic()
        reply = await self._stub.RenewGpuLease(self._held.renewal(), timeout=RENEW_TIMEOUT_S)
        self._take(self._held.renewed(reply, asked_s))

    async def _follow(self) -> None:
        while not self._held.lost:
            with contextlib.suppress(grpc.RpcError):
                # It ends with the lease, or when the arbiter restarts: renewals tell the same, later.
                async for event in self._stub.WatchLease(pb.WatchLeaseRequest(lease_id=self._held.id)):
                    self._take(self._held.state(event.state, event.reason, event.leave_in_ms))
            await asyncio.sleep(min(1.0, self._held.renew_s))

    def _take(self, news: Notice | str | None) -> None:
        if news is None or self._released:
            return
        if isinstance(news, Notice):
            if self._on_notice is not None:
                self._on_notice(news)
        elif not self._held.lost:
            self._held.lost = news
            log.event(_log, "lease.lost", level=logging.WARNING, lease=self.id[:8], why=news)
            if self._on_lost is not None:
                self._on_lost(news)
