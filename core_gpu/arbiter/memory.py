"""One GPU's account: what is measured, what leases reserve, and what their holders may therefore still take.

Everything is kept as sums, so that a grant costs the same with ten thousand leases as with one. Leases whose holder
named the same processes form a group, because the driver measures processes and not leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core_gpu.arbiter import allocator
from core_gpu.arbiter.inventory import Device, Measured
from core_gpu.arbiter.lease import Lease

__all__ = ["Account"]


@dataclass(slots=True)
class _Group:
    """Leases of one set of processes."""

    pids: frozenset[int]
    reserved_mb: int = 0
    #: Of leases whose holder said that the memory is taken.
    loaded_mb: int = 0
    #: Granted since the last measurement, which therefore cannot show them.
    new_mb: int = 0
    #: As measured; None = no measurement ever told.
    used_mb: int | None = None
    leases: int = 0

    @property
    def pending_mb(self) -> int:
        """What its holders may still take: Σ max(0, reserved - used)."""
        if self.used_mb is None:
            # Without figures a holder's word counts: nothing is used until it reports loaded (design §6).
            return self.reserved_mb - self.loaded_mb
        return max(0, self.reserved_mb - self.new_mb - self.used_mb) + self.new_mb


@dataclass(slots=True)
class Account:
    """One device's memory.

    Args:
        device: which one.
        measures: whether anything is ever measured there.
    """

    device: Device
    measures: bool
    #: When the last measurement began; None = there was none.
    taken_s: float | None = None
    reserved_mb: int = 0
    pending_mb: int = 0
    #: Sum of what leases are said or measured to use.
    leased_used_mb: int = 0
    #: By id.
    leases: dict[str, Lease] = field(default_factory=dict)
    processes: Mapping[int, int | None] = field(default_factory=dict)
    _device_used_mb: int = 0
    _groups: dict[frozenset[int], _Group] = field(default_factory=dict)
    _of_pid: dict[int, set[frozenset[int]]] = field(default_factory=dict)
    #: Groups that the next measurement must look at.
    _touched: set[frozenset[int]] = field(default_factory=set)
    _largest: Lease | None = None

    @property
    def used_mb(self) -> int:
        """What is used by everybody: measured, or what holders report where nothing is measured."""
        return self._device_used_mb if self.measures else self.leased_used_mb

    @property
    def unleased_mb(self) -> int:
        """Measured memory that no lease accounts for: contexts, strangers, what was written off."""
        return max(0, self.used_mb - self.leased_used_mb)

    def add(self, lease: Lease) -> None:
        """Take a lease into the account."""
        self.leases[lease.id] = lease
        self.reserved_mb += lease.reserved_mb
        group = self._groups.get(lease.pids)
        if group is None:
            group = self._groups[lease.pids] = _Group(lease.pids)
            for pid in lease.pids:
                self._of_pid.setdefault(pid, set()).add(lease.pids)
        self._leave(group)
        group.leases += 1
        group.reserved_mb += lease.reserved_mb
        if lease.loaded:
            group.loaded_mb += lease.reserved_mb
        elif self.measures:
            group.new_mb += lease.reserved_mb
        self._enter(group)
        self._touched.add(group.pids)
        if self._largest is not None and lease.reserved_mb > self._largest.reserved_mb:
            self._largest = lease

    def remove(self, lease: Lease) -> None:
        """Take a lease out of the account; it has the processes and the `loaded` that it was added with."""
        del self.leases[lease.id]
        self.reserved_mb -= lease.reserved_mb
        group = self._groups[lease.pids]
        self._leave(group)
        group.leases -= 1
        group.reserved_mb -= lease.reserved_mb
        if lease.loaded:
            group.loaded_mb -= lease.reserved_mb
        group.new_mb = min(group.new_mb, group.reserved_mb)
        if group.leases:
            self._enter(group)
        else:
            del self._groups[group.pids]
            self._touched.discard(group.pids)
            for pid in group.pids:
                self._of_pid[pid].discard(group.pids)
                if not self._of_pid[pid]:
                    del self._of_pid[pid]
        if self._largest is lease:
            self._largest = None

    def measured(self, taken_s: float, measured: Measured) -> None:
        """Take a measurement that began at `taken_s`."""
        self.taken_s = taken_s
        self._device_used_mb = measured.used_mb
        self.processes = measured.processes
        shares: dict[frozenset[int], int] = {}
        for pid, used_mb in measured.processes.items():
            groups = self._of_pid.get(pid)
            if groups and used_mb is not None:
                self._share(used_mb, groups, shares)
        for pids in self._touched | shares.keys():
            group = self._groups[pids]
            self._leave(group)
            group.new_mb = 0
            if pids in shares or group.used_mb is not None:
                group.used_mb = shares.get(pids, 0)
            self._enter(group)
        # Those may be gone at the next measurement.
        self._touched = set(shares)

    def used_by(self, lease: Lease) -> tuple[int, bool]:
        """Return what a lease's holder uses of it, in MiB, and whether that was measured."""
        group = self._groups[lease.pids]
        if group.used_mb is None or not group.reserved_mb:
            return (lease.reserved_mb if lease.loaded else 0), False
        return group.used_mb * lease.reserved_mb // group.reserved_mb, True

    def frees_mb(self, lease: Lease) -> int:
        """Return what the rule gains when a lease's holder lets go."""
        return max(lease.reserved_mb, self.used_by(lease)[0])

    def largest(self) -> Lease | None:
        """Return the largest lease, to name in a refusal."""
        if self._largest is None and self.leases:
            self._largest = max(self.leases.values(), key=lambda lease: lease.reserved_mb)
        return self._largest

    def holds(self, lease: Lease, residue_mb: int) -> bool:
        """Say whether the last measurement shows a lease's processes with more than a context's worth of memory."""
        for pid in lease.pids & self.processes.keys():
            used_mb = self.processes[pid]
            if used_mb is None or used_mb > residue_mb:
                return True
        return False

    def view(self, *, earmarked_mb: int, is_open: bool) -> allocator.Gpu:
        """Return the account as the grant rule wants it."""
        device = self.device
        return allocator.Gpu(
            device.id, device.index, device.total_mb, self.used_mb, self.pending_mb, earmarked_mb, is_open
        )

    def _share(self, used_mb: int, groups: Iterable[frozenset[int]], shares: dict[frozenset[int], int]) -> None:
        """Split a process's memory among the groups that name it, by what they reserved."""
        reserved = {pids: self._groups[pids].reserved_mb for pids in groups}
        total = sum(reserved.values())
        left = used_mb
        for place, (pids, part) in enumerate(reserved.items(), start=1):
            amount = left if place == len(reserved) else used_mb * part // total
            left -= amount
            shares[pids] = shares.get(pids, 0) + amount

    def _leave(self, group: _Group) -> None:
        self.pending_mb -= group.pending_mb
        self.leased_used_mb -= _used(group)

    def _enter(self, group: _Group) -> None:
        self.pending_mb += group.pending_mb
        self.leased_used_mb += _used(group)


def _used(group: _Group) -> int:
    """Return what a group's leases are measured or said to use; beyond the leases it is nobody's."""
    if group.used_mb is None:
        return group.loaded_mb
    return min(group.used_mb, group.reserved_mb)
