"""The books: which leases there are, what each GPU's account says, and what time does to a lease.

No I/O but the ledger's; time is handed in. Everything that changes a lease's state goes through `_change`.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from core_gpu.arbiter.ids import LeaseIds
from core_gpu.arbiter.inventory import Device, Reading
from core_gpu.arbiter.lease import Ask, Happening, Lease, Reason, Refused
from core_gpu.arbiter.ledger import Ledger
from core_gpu.arbiter.memory import Account
from core_gpu.arbiter.states import LeaseEvent, LeaseState, next_state
from core_gpu.arbiter.terms import Terms
from core_gpu.arbiter.writes import Writes
from streamkit.ops import log

__all__ = ["Books"]

_log = logging.getLogger(__name__)
#: What an ended lease's renewal is told.
_WORDS: Final = {
    LeaseState.FENCED: (Reason.FENCED, "the lease was taken away after its notice: stop using the memory"),
    LeaseState.RECLAIMING: (Reason.RECLAIMING, "the lease expired: let the memory go, then acquire anew"),
    LeaseState.RELEASING: (Reason.ENDED, "the lease was released"),
}
#: Entries of ended leases that are kept before the heap is made anew.
_SPARE: Final = 1_024
Hook = Callable[[Happening], None]


@dataclass(slots=True)
class Books:
    """All leases and accounts.

    Args:
        devices: the GPUs.
        measures: whether the inventory measures anything.
        ledger: where leases are kept.
        ids: makes them.
        terms: how to lend.
        alive: says whether a process of this machine runs; asked only where nothing is measured.
    """

    devices: Sequence[Device]
    measures: bool
    ledger: Ledger
    ids: LeaseIds
    terms: Terms
    alive: Callable[[int], bool]
    #: Told of everything that happens to a lease, in order.
    hooks: list[Hook] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    accounts: dict[str, Account] = field(init=False)
    #: Leases by exclusive group.
    groups: dict[str, Lease] = field(default_factory=dict)
    #: Leases that something is due for: all states but GRANTED.
    closing: dict[str, Lease] = field(default_factory=dict)
    sequence: int = 0
    _expiries: list[tuple[float, str]] = field(default_factory=list)
    _writes: Writes = field(init=False)

    def __post_init__(self) -> None:
        self._writes = Writes(self.ledger)
        self.accounts = {device.id: Account(device, self.measures) for device in self.devices}

    def restore(self, leases: Sequence[Lease], now: float) -> None:
        """Take over the leases of an earlier life.

        Whoever holds one could not renew while nobody answered, so each has `restart_grace_s` at least. A notice is
        forgotten with those who waited for the memory; a fence stands.
        """
        for lease in leases:
            if lease.gpu not in self.accounts:
                log.event(_log, "lease.gpu_gone", level=logging.WARNING, lease=lease.id[:8], gpu=lease.gpu)
                self._writes.later(lease.id)
                continue
            lease.since_s = now
            if lease.state is LeaseState.NOTICED:
                lease.state = LeaseState.GRANTED
            if lease.state is LeaseState.GRANTED:
                lease.expires_s = max(lease.expires_s, now + min(self.terms.restart_grace_s, lease.ttl_s))
            else:
                lease.due_s = now + self.terms.reclaim_s
                self.closing[lease.id] = lease
            self._enter(lease)

    def gpus(self, selector: str) -> list[Account]:
        """Return the accounts that a GPU selector means: a UUID, an index, or nothing for all; empty = unknown."""
        if not selector:
            return list(self.accounts.values())
        if selector in self.accounts:
            return [self.accounts[selector]]
        return [account for account in self.accounts.values() if str(account.device.index) == selector]

    def fresh(self, account: Account, now: float) -> bool:
        """Say whether an account's measurement is recent enough to lend on."""
        if not self.measures:
            return True
        return account.taken_s is not None and now - account.taken_s <= self.terms.stale_s

    def grant(self, ask: Ask, account: Account, now: float) -> Lease:
        """Write a lease into the ledger and the books.

        Raises:
            LedgerError: it cannot be written; nothing was granted.
        """
        lease = Lease(
            id=self.ids.new(), client=ask.client, model=ask.model, gpu=account.device.id, reserved_mb=ask.mb,
            priority=ask.priority, ttl_s=ask.ttl_s, expires_s=now + ask.ttl_s, granted_s=now,
            exclusive_group=ask.exclusive_group, preemptible=ask.preemptible, pids=ask.pids, since_s=now,
        )  # fmt: skip
        self.ledger.put(lease)
        self._enter(lease)
        self._tell("granted", lease, "")
        return lease

    def release(self, lease_id: str, now: float) -> bool:
        """Take a lease back from its holder; True also for one that ended before, False for one never issued."""
        lease = self.leases.get(lease_id)
        if lease is None:
            return self.ids.issued(lease_id)
        if lease.state is not LeaseState.RELEASING:
            self._change(lease, LeaseEvent.RELEASE, "released by its holder", now)
            self.settle(now, [lease])
        return True

    def renew(
        self, lease_id: str, now: float, *, ttl_s: float | None, loaded: bool, pids: frozenset[int]
    ) -> Lease | Refused:
        """Extend a lease from now on, or say why not."""
        lease = self.leases.get(lease_id)
        if lease is None:
            if self.ids.issued(lease_id):
                return Refused(Reason.ENDED, "the lease has ended: acquire anew")
            return Refused(Reason.UNKNOWN_LEASE, "lease_id: no such lease was ever issued here")
        if not lease.state.held:
            code, words = _WORDS[lease.state]
            return Refused(code, words)
        if (loaded and not lease.loaded) or (pids and pids != lease.pids):
            account = self.accounts[lease.gpu]
            account.remove(lease)
            lease.pids = pids or lease.pids
            lease.loaded = lease.loaded or loaded
            account.add(lease)
            self._tell("loaded" if loaded else "moved", lease, "")
        lease.ttl_s = ttl_s or lease.ttl_s
        earlier = now + lease.ttl_s < lease.expires_s
        lease.expires_s = now + lease.ttl_s
        if earlier:
            heapq.heappush(self._expiries, (lease.expires_s, lease.id))
        self._writes.keep(lease)
        return lease

    def notice(self, lease: Lease, reason: str, now: float) -> None:
        """Ask a holder to give its lease up within the grace."""
        lease.due_s = now + self.terms.grace_s
        self._change(lease, LeaseEvent.NOTICE, reason, now)

    def withdraw(self, lease: Lease, now: float) -> None:
        """Take a notice back."""
        if lease.state is LeaseState.NOTICED:
            self._change(lease, LeaseEvent.WITHDRAW, "the memory is no longer needed", now)

    def fence(self, lease: Lease, now: float) -> None:
        """Honour a lease no longer; its memory stays taken until it is measured free."""
        lease.due_s = now + self.terms.reclaim_s
        self._change(lease, LeaseEvent.FENCE, "the notice was ignored", now)

    def measured(self, reading: Reading) -> None:
        """Take a measurement of all devices."""
        for device, measured in reading.devices.items():
            if device in self.accounts:
                self.accounts[device].measured(reading.taken_s, measured)

    def expire(self, now: float) -> None:
        """End the leases that were not renewed in time, and retry what the ledger could not take."""
        while self._expiries and self._expiries[0][0] <= now:
            _, lease_id = heapq.heappop(self._expiries)
            lease = self.leases.get(lease_id)
            if lease is None or not lease.state.held:
                continue
            if lease.expires_s > now:
                heapq.heappush(self._expiries, (lease.expires_s, lease_id))
                continue
            lease.due_s = now + self.terms.reclaim_s
            self._change(lease, LeaseEvent.EXPIRE, f"not renewed within {lease.ttl_s:g} s", now)
        if len(self._expiries) > 2 * len(self.leases) + _SPARE:
            # Leases that ended before their time leave their entries behind.
            self._expiries = [(lease.expires_s, lease.id) for lease in self.leases.values()]
            heapq.heapify(self._expiries)
        self._writes.retry(self.leases)

    def settle(self, now: float, leases: Sequence[Lease] | None = None) -> None:
        """End what measurement shows to be over, and write off what takes too long."""
        for lease in list(self.closing.values()) if leases is None else leases:
            if lease.state is LeaseState.NOTICED:
                continue
            if not self._still_holds(lease, now):
                self._change(lease, LeaseEvent.BACK, "its memory is back", now)
            elif now >= lease.due_s and self._may_write_off(lease):
                self._change(lease, LeaseEvent.WRITE_OFF, "its processes did not let go of the memory in time", now)

    def busy(self, account: Account) -> Iterator[Lease]:
        """Yield the leases of a GPU whose memory is on its way back."""
        return (lease for lease in self.closing.values() if lease.gpu == account.device.id)

    def _still_holds(self, lease: Lease, now: float) -> bool:
        account = self.accounts[lease.gpu]
        if self.measures:
            if account.taken_s is None or account.taken_s <= lease.since_s:
                return True
            # What a released lease's processes keep is in the measurement, lease or not.
            return lease.state is not LeaseState.RELEASING and account.holds(lease, self.terms.residue_mb)
        if lease.state is LeaseState.RELEASING:
            return False
        if lease.pids:
            return any(map(self.alive, lease.pids))
        # Nothing was ever said but the time: a fenced lease counts until that is over.
        return lease.state is LeaseState.FENCED and now < lease.expires_s

    def _may_write_off(self, lease: Lease) -> bool:
        """Say whether what a lease's processes keep may belong to no lease from now on.

        Where memory is measured it stays counted. Where it is not, a fenced holder's is never lent on a guess.
        """
        return lease.state is LeaseState.RECLAIMING or (lease.state is LeaseState.FENCED and self.measures)

    def _enter(self, lease: Lease) -> None:
        self.leases[lease.id] = lease
        self.accounts[lease.gpu].add(lease)
        if lease.exclusive_group:
            self.groups[lease.exclusive_group] = lease
        heapq.heappush(self._expiries, (lease.expires_s, lease.id))

    def _change(self, lease: Lease, event: LeaseEvent, reason: str, now: float) -> None:
        before = lease.state
        lease.state = next_state(before, event)
        lease.since_s = now
        lease.why = reason
        lease.asked_room = False
        if lease.state.ended:
            del self.leases[lease.id]
            self.closing.pop(lease.id, None)
            self.accounts[lease.gpu].remove(lease)
            if self.groups.get(lease.exclusive_group) is lease:
                del self.groups[lease.exclusive_group]
            if before is not LeaseState.RELEASING:
                self._writes.forget(lease.id)
        elif lease.state is LeaseState.RELEASING:
            # Gone from the ledger at once: after a restart every measurement is newer than the release.
            self.closing[lease.id] = lease
            self._writes.forget(lease.id)
        else:
            if lease.state is LeaseState.GRANTED:
                self.closing.pop(lease.id, None)
            else:
                self.closing[lease.id] = lease
            self._writes.keep(lease)
        self._tell(event.value, lease, reason)

    def _tell(self, name: str, lease: Lease, reason: str) -> None:
        self.sequence += 1
        happening = Happening(name, lease, lease.state, reason, self.sequence)
        for hook in self.hooks:
            hook(happening)
