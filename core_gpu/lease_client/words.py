"""What a client asks for and what it is told: the words that both kinds of client share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from streamkit.wire.pb import modelops_pb2 as pb

__all__ = ["ClientTls", "Held", "LeaseAsk", "LeaseError", "LeaseRefused", "Notice", "OnLost", "OnNotice"]

#: A renewal is due after this share of the ttl, so that two may fail.
RENEW_SHARE: Final = 1 / 3
RENEW_TIMEOUT_S: Final = 5.0
#: gRPC's own pauses before it connects again grow to two minutes; a lease would be over long before.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Else each call brings a ping that measures bandwidth; messages here are tiny.
    ("grpc.http2.bdp_probe", 0),
)


class LeaseError(Exception):
    """The arbiter cannot be asked; the message is one line for a person."""


class LeaseRefused(LeaseError):  # noqa: N818  an answer, not a mishap
    """The arbiter said no.

    Args:
        reply: its answer.
    """

    def __init__(self, reply: pb.GpuLeaseReply) -> None:
        super().__init__(reply.reason)
        #: As on the wire, without its prefix: `INSUFFICIENT`, `NEVER_FITS`, `TIMEOUT` …
        self.code = pb.Refusal.Name(reply.code).removeprefix("REFUSAL_")
        self.free_mb = reply.free_mb
        self.needed_mb = reply.needed_mb
        self.holder = reply.holder
        #: 0 = asking again is useless.
        self.retry_after_ms = reply.retry_after_ms


def _own_process() -> tuple[int, ...]:
    return (os.getpid(),)


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """A request for memory of a GPU.

    Args:
        client: who asks, for people and for lists.
        mb: MiB.
        model: what for.
        priority: 1 (highest) to 9.
        ttl_s: the lease's length without a renewal, whole seconds; renewals come at a third of it.
        wait_s: how long to wait in the arbiter's line; 0 = not at all.
        exclusive_group: at most one lease of it is held at a time; empty = none.
        gpu: UUID or index; empty = any.
        pids: the processes that will hold the memory, as the host numbers them; this one if left out.
        precision: for the holder itself: what it means to load. The arbiter does not see it.
    """

    client: str
    mb: int
    model: str = ""
    priority: int = 2
    ttl_s: int = 30
    wait_s: float = 0.0
    exclusive_group: str = ""
    gpu: str = ""
    pids: tuple[int, ...] = field(default_factory=_own_process)
    precision: str = ""

    def message(self, *, preemptible: bool) -> pb.GpuLeaseRequest:
        """Return the request as it goes out."""
        return pb.GpuLeaseRequest(
            client=self.client, model_name=self.model, vram_estimate_mb=self.mb, priority=self.priority,
            ttl_seconds=self.ttl_s, wait_ms=round(self.wait_s * 1000), exclusive_group=self.exclusive_group,
            preemptible=preemptible, pids=self.pids, gpu=self.gpu,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """The arbiter asks for the memory back.

    Args:
        reason: who needs it.
        leave_s: how long the lease is still honoured.
    """

    reason: str
    leave_s: float


#: Called with a notice; whoever takes one gives the lease up, or is fenced.
OnNotice = Callable[[Notice], None]
#: Called once with the reason when a lease is no longer honoured: the memory must not be used any more.
OnLost = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Mutual TLS from PEM files.

    Args:
        ca: the authority that signed the arbiter's certificate.
        cert: this client's certificate chain.
        key: its key.
    """

    ca: Path
    cert: Path
    key: Path

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what gRPC wants."""
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())


@dataclass(slots=True)
class Held:
    """What a client knows of a lease that it holds: the part without threads or tasks.

    Args:
        id: the lease's.
        gpu: UUID of its GPU.
        gpu_index: and its place in the arbiter's list.
        mb: MiB.
        ttl_s: its length.
        expires_s: when it ends unless renewed, in monotonic seconds.
    """

    id: str
    gpu: str
    gpu_index: int
    mb: int
    ttl_s: float
    expires_s: float
    loaded: bool = False
    #: Why it is no longer honoured; empty = it is.
    lost: str = ""
    noticed: bool = False

    @classmethod
    def of(cls, reply: pb.GpuLeaseReply, ask: LeaseAsk) -> Held:
        """Return what a grant says, which has just come."""
        expires_s = time.monotonic() + reply.expires_in_ms / 1000
        return cls(reply.lease_id, reply.gpu, reply.gpu_index, reply.vram_reserved_mb, ask.ttl_s, expires_s)

    @property
    def renew_s(self) -> float:
        """Pause between renewals, in seconds."""
        return max(0.2, self.ttl_s * RENEW_SHARE)

    def renewal(self) -> pb.GpuLeaseRenewal:
        """Return the next renewal."""
        return pb.GpuLeaseRenewal(lease_id=self.id, loaded=self.loaded)

    def renewed(self, reply: pb.GpuLeaseRenewalReply, asked_s: float) -> Notice | str | None:
        """Take a renewal's answer: a notice, the reason why the lease is lost, or nothing new."""
        if not reply.renewed:
            return reply.reason
        self.expires_s = asked_s + reply.expires_in_ms / 1000
        return self.state(reply.state, reply.reason, reply.leave_in_ms)

    def state(self, state: int, reason: str, leave_in_ms: int) -> Notice | str | None:
        """Take a state from a watch or a renewal."""
        if state == pb.LEASE_STATE_NOTICED:
            if self.noticed:
                return None
            self.noticed = True
            # An arbiter that was restarted meanwhile does not know the reason any more.
            return Notice(reason or "the arbiter asks for the memory", leave_in_ms / 1000)
        if state == pb.LEASE_STATE_GRANTED:
            self.noticed = False
            return None
        if state in (pb.LEASE_STATE_RELEASING, pb.LEASE_STATE_RELEASED):
            return "released"
        return reason or "the lease ended"
