"""The client for programs with threads."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from types import TracebackType
from typing import Self

import grpc

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

__all__ = ["Lease", "LeaseClient"]

_log = logging.getLogger(__name__)


class LeaseClient:
    """Asks one arbiter for leases; safe to use from several threads.

    Args:
        address: `host:port`.
        tls: None = in the clear, which an arbiter offers on loopback only.
    """

    def __init__(self, address: str = "127.0.0.1:50051", *, tls: ClientTls | None = None) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, tls.credentials(), options=CHANNEL_OPTIONS)
        self._address = address
        self.stub = ModelOpsStub(self._channel)
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()

    def acquire(self, ask: LeaseAsk, *, on_notice: OnNotice | None = None, on_lost: OnLost | None = None) -> Lease:
        """Return a lease that renews itself until it is released.

        Args:
            ask: what for.
            on_notice: makes the lease one that may be pre-empted; called from a thread of the lease.
            on_lost: called from a thread of the lease when it is no longer honoured.

        Raises:
            LeaseRefused: the arbiter said no.
            LeaseError: it does not answer.
        """
        try:
            reply = self.stub.AcquireGpuLease(
                ask.message(preemptible=on_notice is not None), timeout=ask.wait_s + RENEW_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise LeaseError(f"the arbiter at {self._address} does not answer: {_words(error)}") from None
        if not reply.granted:
            raise LeaseRefused(reply)
        lease = Lease(self.stub, Held.of(reply, ask), on_notice, on_lost)
        self._leases.add(lease)
        return lease

    def close(self) -> None:
        """Close the connection; leases that were not released are renewed no more, and expire."""
        for lease in list(self._leases):
            lease.abandon()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lease:
    """Memory that is ours until `release`; a context manager. Made by `LeaseClient.acquire`."""

    def __init__(self, stub: ModelOpsStub, held: Held, on_notice: OnNotice | None, on_lost: OnLost | None) -> None:
        self._stub = stub
        self._held = held
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watch: grpc.Call | None = None
        self._threads = [threading.Thread(target=self._renew, name=f"renew {held.id[:8]}", daemon=True)]
        if on_notice is not None:
            self._threads.append(threading.Thread(target=self._follow, name=f"watch {held.id[:8]}", daemon=True))
        for thread in self._threads:
            thread.start()

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
        return not self._held.lost and not self._stop.is_set() and time.monotonic() < self._held.expires_s

    @property
    def lost(self) -> str:
        """Why the lease is no longer honoured; empty = it is, or was released by us."""
        return self._held.lost

    def loaded(self) -> None:
        """Tell the arbiter that the memory is taken, so that it counts it once and not twice.

        Raises:
            LeaseError: the arbiter does not answer; the next renewal tells it.
        """
        self._held.loaded = True
        try:
            self._renew_once()
        except grpc.RpcError as error:
            raise LeaseError(f"the arbiter does not answer: {_words(error)}") from None

    def release(self) -> None:
        """Give the memory back; once more does nothing. If the arbiter cannot be told, the lease expires."""
        if self._stop.is_set():
            return
        self.abandon()
        try:
            self._stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=self._held.id), timeout=RENEW_TIMEOUT_S)
        except grpc.RpcError as error:
            log.event(_log, "lease.release_failed", level=logging.WARNING, lease=self.id[:8], why=_words(error))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(RENEW_TIMEOUT_S)

    def abandon(self) -> None:
        """Stop renewing, and leave the lease to its end."""
        self._stop.set()
        if self._watch is not None:
            self._watch.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _renew(self) -> None:
        pause_s = self._held.renew_s
        while not self._stop.wait(pause_s):
            try:
                self._renew_once()
                pause_s = self._held.renew_s
            except (grpc.RpcError, ValueError):  # a closed channel is a ValueError
                # Until it is over there is time to reach the arbiter again, or the next one on its ledger.
                pause_s = min(1.0, self._held.renew_s)
                if time.monotonic() >= self._held.expires_s:
                    self._take("the arbiter could not be reached in time")
            if self._held.lost:
                return

    def _renew_once(self) -> None:
        asked_s = time.monotonic()
        reply = self._stub.RenewGpuLease(self._held.renewal(), timeout=RENEW_TIMEOUT_S)
        with self._lock:
            news = self._held.renewed(reply, asked_s)
        self._take(news)

    def _follow(self) -> None:
        while not self._stop.is_set() and not self._held.lost:
            try:
                watch = self._stub.WatchLease(pb.WatchLeaseRequest(lease_id=self._held.id))
                self._watch = watch
                if self._stop.is_set():
                    watch.cancel()
                for event in watch:
                    with self._lock:
                        news = self._held.state(event.state, event.reason, event.leave_in_ms)
                    self._take(news)
            except (grpc.RpcError, ValueError):
                # Cancelled by `release`, or the arbiter restarts: renewals tell the same, later.
                self._stop.wait(min(1.0, self._held.renew_s))

    def _take(self, news: Notice | str | None) -> None:
        if news is None or self._stop.is_set():
            return
        if isinstance(news, Notice):
            if self._on_notice is not None:
                self._on_notice(news)
            return
        with self._lock:
            if self._held.lost:
                return
            self._held.lost = news
        log.event(_log, "lease.lost", level=logging.WARNING, lease=self.id[:8], why=news)
        if self._on_lost is not None:
            self._on_lost(news)


def _words(error: grpc.RpcError) -> str:
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)
