"""What a starter says to the arbiter, and what it makes of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from streamkit.wire.pb import modelops_pb2 as pb
from streamkit.wire.pb.modelops_pb2_grpc import ModelOpsStub

__all__ = ["TTL_S", "ArbiterAwayError", "Desk", "RefusedError", "Reservation"]

#: Of its leases; they are renewed at a third of it.
TTL_S: Final = 30
_CALL_S: Final = 10.0
_LOST: Final = frozenset({pb.REFUSAL_UNKNOWN_LEASE, pb.REFUSAL_ENDED, pb.REFUSAL_FENCED})


class RefusedError(Exception):
    """The arbiter said no; the message is its reason, in one line."""


class ArbiterAwayError(Exception):
    """The arbiter does not answer; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A lease that was granted."""

    id: str
    mb: int
    gpu: str
    gpu_index: int


class Desk:
    """Synchronous calls to one arbiter.

    Args:
        address: `host:port`.
        client: the name that its leases bear.
    """

    def __init__(self, address: str, client: str) -> None:
        self._address = address
        self._client = client
        self._channel = grpc.insecure_channel(address)
        self._stub = ModelOpsStub(self._channel)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def acquire(self, model: str, mb: int, priority: int, gpu: str, wait_ms: int) -> Reservation:
        """Reserve memory, waiting for it up to `wait_ms`.

        Raises:
            RefusedError: there is not so much.
            ArbiterAwayError: nobody answers.
        """
        request = pb.GpuLeaseRequest(
            client=self._client, model_name=model, vram_estimate_mb=mb, priority=priority, ttl_seconds=TTL_S,
            wait_ms=wait_ms, gpu=gpu,
        )  # fmt: skip
        try:
            found = self._stub.AcquireGpuLease(request, timeout=_CALL_S + wait_ms / 1_000)
        except grpc.RpcError as error:
            raise self._away(error) from None
        if not found.granted:
            raise RefusedError(found.reason)
        return Reservation(found.lease_id, found.vram_reserved_mb, found.gpu, found.gpu_index)

    def begin(self, lease: Reservation, deadline_ms: int, wait_ms: int) -> str:
        """Raise the barrier on the lease's GPU and return its id.

        Raises:
            RefusedError: another start-up, or memory that is coming back, took longer than `wait_ms`.
            ArbiterAwayError: nobody answers.
        """
        request = pb.BeginStartupRequest(
            client=self._client, lease_ids=[lease.id], deadline_ms=deadline_ms, wait_ms=wait_ms
        )
        try:
            found = self._stub.BeginStartup(request, timeout=_CALL_S + wait_ms / 1_000)
        except grpc.RpcError as error:
            raise self._away(error) from None
        if not found.begun:
            raise RefusedError(found.reason)
        return str(found.startup_id)

    def end(self, startup_id: str, *, healthy: bool) -> None:
        """Lower the barrier; where nobody answers it ends at its deadline."""
        try:
            self._stub.EndStartup(pb.EndStartupRequest(startup_id=startup_id, healthy=healthy), timeout=_CALL_S)
        except grpc.RpcError:
            return

    def renew(self, lease: Reservation, *, loaded: bool, pids: tuple[int, ...]) -> bool:
        """Keep the lease; False when nobody answered.

        Raises:
            RefusedError: the lease is lost.
        """
        request = pb.GpuLeaseRenewal(lease_id=lease.id, ttl_seconds=TTL_S, loaded=loaded, pids=pids)
        try:
            found = self._stub.RenewGpuLease(request, timeout=_CALL_S / 2)
        except grpc.RpcError:
            return False
        if not found.renewed and found.code in _LOST:
            raise RefusedError(found.reason)
        return bool(found.renewed)

    def release(self, lease: Reservation) -> None:
        """Give the lease back; where nobody answers it expires."""
        try:
            self._stub.ReleaseGpuLease(pb.GpuLeaseRelease(lease_id=lease.id), timeout=_CALL_S / 2)
        except grpc.RpcError:
            return

    def _away(self, error: grpc.RpcError) -> ArbiterAwayError:
        # What a call raises is an RpcError and a Call; the type information knows only the first.
        code = error.code().name
        return ArbiterAwayError(f"no arbiter answers at {self._address} ({code}); headrace arbiter starts one")
