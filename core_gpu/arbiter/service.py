"""`modelops.ModelOps` over grpc.aio: messages in, the arbiter's answers out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Final

import grpc
from grpc import aio

from core_gpu.arbiter import messages
from core_gpu.arbiter.arbiter import Arbiter
from core_gpu.arbiter.lease import Granted, Happening, Reason, Refused
from core_gpu.arbiter.line import Waiter
from core_gpu.arbiter.meters import Meters
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.arbiter.startups import Begun, StartupAsk
from core_gpu.arbiter.watches import Watches, WatchesFull
from streamkit.wire.pb import modelops_pb2 as pb
from streamkit.wire.pb import modelops_pb2_grpc

__all__ = ["ModelOps"]

_Context = aio.ServicerContext[object, object]
#: Answers of a list are cut into several of the caller's by its own selection; this bounds one.
_LIST_YIELD: Final = 2_000


class ModelOps(modelops_pb2_grpc.ModelOpsServicer):
    """The service.

    Args:
        arbiter: what answers.
        settings: limits of a request.
        inventory: its kind.
        watches: a hook of the arbiter's books.
        meters: counts.
    """

    def __init__(
        self, arbiter: Arbiter, settings: ArbiterSettings, inventory: str, watches: Watches, meters: Meters
    ) -> None:
        self.instance = f"{time.time_ns() // 1_000_000:x}-{secrets.token_hex(4)}"
        self._arbiter = arbiter
        self._settings = settings
        self._inventory = inventory
        self._watches = watches
        self._meters = meters

    async def AcquireGpuLease(self, request: pb.GpuLeaseRequest, context: object) -> pb.GpuLeaseReply:  # noqa: N802
        """Grant, refuse, or wait and then do one of the two."""
        begun = time.perf_counter()
        ask = messages.ask_of(request, self._settings)
        if isinstance(ask, Refused):
            self._meters.refused(ask.code)
            return messages.reply(ask, self._arbiter)
        waiting: asyncio.Future[Granted | Refused] | None = None
        if ask.wait_s:
            waiting = asyncio.get_running_loop().create_future()
            answer = self._arbiter.acquire(ask, waiting.set_result)
        else:
            answer = self._arbiter.acquire(ask, _nobody)
        if isinstance(answer, Waiter):
            answer = await self._wait(answer, waiting)
        if isinstance(answer, Granted):
            self._meters.granted(time.perf_counter() - begun)
        else:
            self._meters.refused(answer.code)
        return messages.reply(answer, self._arbiter)

    async def _wait(self, waiter: Waiter, waiting: asyncio.Future[Granted | Refused] | None) -> Granted | Refused:
        if waiting is None:
            raise RuntimeError("a request that does not wait was put into the line")
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # Its client left. What was granted a moment ago is nobody's.
            if waiting.done():
                answer = waiting.result()
                if isinstance(answer, Granted):
                    self._arbiter.release(answer.lease.id)
            else:
                self._arbiter.cancel(waiter)
            raise

    async def ReleaseGpuLease(self, request: pb.GpuLeaseRelease, context: object) -> pb.GpuLeaseReleaseAck:  # noqa: N802
        """Take a lease back."""
        return pb.GpuLeaseReleaseAck(success=self._arbiter.release(request.lease_id))

    async def RenewGpuLease(self, request: pb.GpuLeaseRenewal, context: object) -> pb.GpuLeaseRenewalReply:  # noqa: N802
        """Extend a lease."""
        now = self._arbiter.clock()
        if problem := messages.renewal_problem(request, self._settings):
            return messages.renewed(Refused(Reason.INVALID, problem), now)
        answer = self._arbiter.renew(
            request.lease_id,
            ttl_s=float(request.ttl_seconds) or None,
            loaded=request.loaded,
            pids=frozenset(request.pids),
        )
        return messages.renewed(answer, now)

    async def WatchLease(self, request: pb.WatchLeaseRequest, context: _Context) -> AsyncIterator[pb.LeaseEvent]:  # noqa: N802
        """Tell a lease's state now and at every change, until it ends."""
        books = self._arbiter.books
        lease = books.leases.get(request.lease_id)
        if lease is None:
            ended = books.ids.issued(request.lease_id)
            words = "the lease has ended" if ended else "lease_id: no such lease was ever issued here"
            await context.abort(grpc.StatusCode.NOT_FOUND, words)
        try:
            with self._watches.of(request.lease_id) as watch:
                # The reason as well: a notice may have been given before its holder watched.
                first = Happening("granted", lease, lease.state, lease.why, books.sequence)
                yield messages.event_of(first, self._arbiter.clock())
                while (happening := await watch.next()) is not None:
                    yield messages.event_of(happening, self._arbiter.clock())
                    if happening.state.ended:
                        return
        except WatchesFull as full:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{full} (max_watches): renewals tell as well")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the arbiter is stopping: watch again when it is back")

    async def ListLeases(self, request: pb.ListLeasesRequest, context: object) -> pb.ListLeasesReply:  # noqa: N802
        """Return all leases, or those of one GPU or client; the oldest first."""
        now = self._arbiter.clock()
        books = self._arbiter.books
        accounts = {account.device.id for account in books.gpus(request.gpu)}
        reply = pb.ListLeasesReply()
        for place, lease in enumerate(list(books.leases.values())):
            # It may have ended while others had their turn.
            if lease.id in books.leases and lease.gpu in accounts and request.client in ("", lease.client):
                reply.leases.append(messages.lease_of(lease, self._arbiter, now))
            if place % _LIST_YIELD == _LIST_YIELD - 1:
                # A long list must not hold up those who acquire.
                await asyncio.sleep(0)
        return reply

    async def GetState(self, request: pb.GetStateRequest, context: object) -> pb.ArbiterState:  # noqa: N802
        """Return what each GPU has and lends."""
        return messages.state_of(self._arbiter, self.instance, self._inventory)

    async def BeginStartup(self, request: pb.BeginStartupRequest, context: object) -> pb.BeginStartupReply:  # noqa: N802
        """Raise a start-up barrier, now or after a wait."""
        arbiter = self._arbiter
        if problem := messages.startup_of(request, self._settings):
            return messages.begun(Refused(Reason.INVALID, problem), arbiter.clock())
        waiting: asyncio.Future[Begun | Refused] = asyncio.get_running_loop().create_future()
        asked = arbiter.begin_startup(
            request.client, tuple(request.lease_ids), request.deadline_ms / 1000, request.wait_ms / 1000,
            waiting.set_result,
        )  # fmt: skip
        if isinstance(asked, StartupAsk):
            try:
                return messages.begun(await asyncio.shield(waiting), arbiter.clock())
            except asyncio.CancelledError:
                arbiter.startups.cancel(asked)
                if waiting.done() and isinstance(found := waiting.result(), Begun):
                    arbiter.end_startup(found.id, healthy=False)
                raise
        return messages.begun(asked, arbiter.clock())

    async def EndStartup(self, request: pb.EndStartupRequest, context: object) -> pb.EndStartupReply:  # noqa: N802
        """Lower a start-up barrier."""
        if self._arbiter.end_startup(request.startup_id, healthy=request.healthy):
            return pb.EndStartupReply(success=True)
        return pb.EndStartupReply(success=False, reason="startup_id: no such start-up, or it ended at its deadline")


def _nobody(_answer: Granted | Refused) -> None:
    """Take an answer that was given before anybody waited."""
