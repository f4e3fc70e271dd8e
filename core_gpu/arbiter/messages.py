"""Between the wire's messages and the arbiter's words; what is out of range is refused here, by field and limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core_gpu.arbiter.arbiter import Arbiter
from core_gpu.arbiter.lease import Ask, Granted, Happening, Lease, Reason, Refused
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.arbiter.startups import Begun
from core_gpu.arbiter.states import LeaseState
from streamkit.wire.pb import modelops_pb2 as pb

__all__ = [
    "MAX_MESSAGE_BYTES",
    "ask_of",
    "begun",
    "event_of",
    "lease_of",
    "renewal_problem",
    "renewed",
    "reply",
    "startup_of",
    "state_of",
]

MAX_MESSAGE_BYTES: Final = 64 * 1024
_MAX_TEXT: Final = 256
_MAX_PIDS: Final = 64
_MAX_STARTUP_LEASES: Final = 64
_MAX_MB: Final = 1 << 40
_DEFAULT_PRIORITY: Final = 2


def ask_of(request: pb.GpuLeaseRequest, settings: ArbiterSettings) -> Ask | Refused:
    """Return what a request asks for, or a refusal that names the field and its limit."""
    mb = request.vram_estimate_mb
    priority = request.priority or _DEFAULT_PRIORITY
    ttl_ms = request.ttl_seconds * 1000 or settings.default_ttl_ms
    problem = (
        _text("client", request.client)
        or _text("model_name", request.model_name)
        or _text("exclusive_group", request.exclusive_group)
        or _text("gpu", request.gpu)
        or _range("vram_estimate_mb", mb, 1, _MAX_MB)
        or _range("priority", priority, 1, 9, ", or 0 for the default")
        or _range("ttl_seconds", request.ttl_seconds, 0, settings.max_ttl_ms // 1000)
        or _range("wait_ms", request.wait_ms, 0, settings.max_wait_ms)
        or _pids(request.pids)
    )
    if problem:
        return Refused(Reason.INVALID, problem, needed_mb=max(0, mb))
    return Ask(
        client=request.client, model=request.model_name, mb=mb, priority=priority, ttl_s=ttl_ms / 1000,
        wait_s=request.wait_ms / 1000, exclusive_group=request.exclusive_group, preemptible=request.preemptible,
        pids=frozenset(request.pids) if request.pids else _NO_PIDS, gpu=request.gpu,
    )  # fmt: skip


def reply(answer: Granted | Refused, arbiter: Arbiter) -> pb.GpuLeaseReply:
    """Return the answer to an acquire."""
    if isinstance(answer, Granted):
        lease = answer.lease
        return pb.GpuLeaseReply(
            granted=True, lease_id=lease.id, vram_reserved_mb=lease.reserved_mb, needed_mb=lease.reserved_mb,
            gpu=lease.gpu, gpu_index=arbiter.books.accounts[lease.gpu].device.index,
            expires_in_ms=_left_ms(lease.expires_s, arbiter.clock()),
        )  # fmt: skip
    return pb.GpuLeaseReply(
        granted=False, reason=answer.reason, retry_after_ms=answer.retry_after_ms, code=_code(answer),
        free_mb=answer.free_mb, needed_mb=answer.needed_mb, holder=answer.holder,
    )  # fmt: skip


def renewal_problem(request: pb.GpuLeaseRenewal, settings: ArbiterSettings) -> str:
    """Return what is wrong with a renewal, or an empty string."""
    return _range("ttl_seconds", request.ttl_seconds, 0, settings.max_ttl_ms // 1000) or _pids(request.pids)


def renewed(answer: Lease | Refused, now: float) -> pb.GpuLeaseRenewalReply:
    """Return the answer to a renewal."""
    if isinstance(answer, Refused):
        return pb.GpuLeaseRenewalReply(renewed=False, code=_code(answer), reason=answer.reason)
    return pb.GpuLeaseRenewalReply(
        renewed=True, state=_state(answer), reason=answer.why, expires_in_ms=_left_ms(answer.expires_s, now),
        leave_in_ms=_leave_ms(answer, now),
    )  # fmt: skip


def event_of(happening: Happening, now: float) -> pb.LeaseEvent:
    """Return what happened to a lease as a watcher gets it."""
    lease = happening.lease
    noticed = happening.state is LeaseState.NOTICED
    return pb.LeaseEvent(
        lease_id=lease.id, state=pb.LeaseState.ValueType(happening.state.value), reason=happening.reason,
        leave_in_ms=_left_ms(lease.due_s, now) if noticed else 0, expires_in_ms=_left_ms(lease.expires_s, now),
        sequence=happening.sequence,
    )  # fmt: skip


def lease_of(lease: Lease, arbiter: Arbiter, now: float) -> pb.Lease:
    """Return a lease as a list shows it."""
    account = arbiter.books.accounts[lease.gpu]
    used_mb, measured = account.used_by(lease)
    return pb.Lease(
        lease_id=lease.id, client=lease.client, model_name=lease.model, gpu=lease.gpu, gpu_index=account.device.index,
        vram_reserved_mb=lease.reserved_mb, vram_used_mb=used_mb, measured=measured, priority=lease.priority,
        state=_state(lease), expires_in_ms=_left_ms(lease.expires_s, now), age_ms=_left_ms(now, lease.granted_s),
        preemptible=lease.preemptible, loaded=lease.loaded, exclusive_group=lease.exclusive_group,
        pids=sorted(lease.pids),
    )  # fmt: skip


def state_of(arbiter: Arbiter, instance: str, inventory: str) -> pb.ArbiterState:
    """Return everything that another service decides by."""
    now = arbiter.clock()
    books, line = arbiter.books, arbiter.line
    state = pb.ArbiterState(
        instance=instance, sequence=books.sequence, inventory=inventory, leases=len(books.leases),
        waiting=len(line), draining=arbiter.draining,
    )  # fmt: skip
    for account in books.accounts.values():
        device = account.device
        fresh = books.fresh(account, now)
        taken_s = account.taken_s if books.measures else now
        state.gpus.add(
            gpu=device.id, gpu_index=device.index, name=device.name, total_mb=device.total_mb,
            cap_mb=books.terms.rule.cap_mb(device.total_mb), used_mb=account.used_mb,
            reserved_mb=account.reserved_mb,
            pending_mb=account.pending_mb, free_mb=line.free_mb(account, now), unleased_mb=account.unleased_mb,
            leases=len(account.leases), snapshot_age_ms=-1 if taken_s is None else _left_ms(now, taken_s),
            stale=not fresh, startup_client=arbiter.startups.holder(device.id),
            earmarked_mb=line.view(account, now).earmarked_mb, mig=device.mig,
        )  # fmt: skip
    return state


def startup_of(request: pb.BeginStartupRequest, settings: ArbiterSettings) -> str:
    """Return what is wrong with a start-up's request, or an empty string."""
    return (
        _text("client", request.client)
        or _range("lease_ids", len(request.lease_ids), 1, _MAX_STARTUP_LEASES, " leases")
        or _range("deadline_ms", request.deadline_ms, 0, 86_400_000)
        or _range("wait_ms", request.wait_ms, 0, settings.max_wait_ms)
    )


def begun(answer: Begun | Refused, now: float) -> pb.BeginStartupReply:
    """Return the answer to a start-up's request."""
    if isinstance(answer, Refused):
        return pb.BeginStartupReply(
            begun=False, code=_code(answer), reason=answer.reason, retry_after_ms=answer.retry_after_ms,
            holder=answer.holder,
        )  # fmt: skip
    return pb.BeginStartupReply(
        begun=True, startup_id=answer.id, gpus=answer.gpus, ends_in_ms=_left_ms(answer.ends_s, now)
    )


_NO_PIDS: Final[frozenset[int]] = frozenset()


def _code(refused: Refused) -> pb.Refusal.ValueType:
    return pb.Refusal.ValueType(refused.code.value)


def _state(lease: Lease) -> pb.LeaseState.ValueType:
    return pb.LeaseState.ValueType(lease.state.value)


def _left_ms(later: float, earlier: float) -> int:
    return min(max(0, round((later - earlier) * 1000)), 0x7FFFFFFF)


def _leave_ms(lease: Lease, now: float) -> int:
    return _left_ms(lease.due_s, now) if lease.state is LeaseState.NOTICED else 0


def _text(field: str, value: str) -> str:
    return "" if len(value) <= _MAX_TEXT else f"{field}: expected at most {_MAX_TEXT} characters, got {len(value)}"


def _range(field: str, value: int, low: int, high: int, more: str = "") -> str:
    return "" if low <= value <= high else f"{field}: expected {low} to {high}{more}, got {value}"


def _pids(pids: Sequence[int]) -> str:
    if not pids:
        return ""
    if len(pids) > _MAX_PIDS:
        return f"pids: expected at most {_MAX_PIDS}, got {len(pids)}"
    return next((f"pids: expected process ids above 0, got {pid}" for pid in pids if pid <= 0), "")
