"""Start-up barriers: an engine that measures free memory while it starts must not see others let memory go.

vLLM refuses to start when a co-tenant frees memory while it profiles. So: reserve the memory, let all reclaiming on
the GPU come to its end, raise the barrier, launch, and lower it when the engine is healthy, has ended, or its time is
over. While it is up nothing is granted on the GPU and the arbiter asks nobody there for room. One barrier a GPU; a
start-up on several GPUs gets all of them at once or none, so two can never wait for each other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core_gpu.arbiter.books import Books
from core_gpu.arbiter.lease import Reason, Refused
from core_gpu.arbiter.ledger import LedgerError, StartupRow

__all__ = ["Begun", "StartupAsk", "Startups"]


@dataclass(frozen=True, slots=True)
class Begun:
    """The barrier is up.

    Args:
        id: ends it.
        gpus: on which, in the order of their index.
        ends_s: when it is lowered at the latest, in monotonic seconds.
    """

    id: str
    gpus: tuple[str, ...]
    ends_s: float


@dataclass(slots=True, eq=False)
class StartupAsk:
    """A start-up that waits for its GPUs.

    Args:
        client: who.
        leases: the memory it has reserved.
        lasts_s: its longest time.
        deadline_s: when it gives up waiting, in monotonic seconds.
        resolve: called with the answer, once.
    """

    client: str
    leases: tuple[str, ...]
    lasts_s: float
    deadline_s: float
    resolve: Callable[[Begun | Refused], None]


@dataclass(slots=True)
class Startups:
    """All barriers.

    Args:
        books: whose GPUs.
        told: called with a barrier's client, its GPUs and how it ended.
    """

    books: Books
    told: Callable[[str, tuple[str, ...], str], None]
    _rows: dict[str, StartupRow] = field(default_factory=dict)
    _of_gpu: dict[str, StartupRow] = field(default_factory=dict)
    _waiting: list[StartupAsk] = field(default_factory=list)

    def restore(self, rows: Sequence[StartupRow], now: float) -> None:
        """Raise the barriers of an earlier life again, for what is left of their time."""
        for row in rows:
            if row.ends_s > now and all(gpu in self.books.accounts for gpu in row.gpus):
                self._rows[row.id] = row
                self._of_gpu.update(dict.fromkeys(row.gpus, row))
            else:
                self._forget(row.id)

    def holder(self, gpu: str) -> str:
        """Return who holds a GPU's barrier; empty = nobody."""
        row = self._of_gpu.get(gpu)
        return row.client if row is not None else ""

    def wait(self, ask: StartupAsk) -> None:
        """Answer a start-up later."""
        self._waiting.append(ask)

    def cancel(self, ask: StartupAsk) -> None:
        """Forget a start-up that waits."""
        if ask in self._waiting:
            self._waiting.remove(ask)

    def begin(self, ask: StartupAsk, now: float, taken: frozenset[str] = frozenset()) -> Begun | Refused:
        """Raise the barrier, or say why not.

        Args:
            ask: the start-up.
            now: monotonic seconds.
            taken: GPUs that an earlier one waits for.
        """
        gpus: dict[str, int] = {}
        for place, lease_id in enumerate(ask.leases):
            lease = self.books.leases.get(lease_id)
            if lease is None or not lease.state.held:
                return Refused(
                    Reason.UNKNOWN_LEASE, f"lease_ids[{place}]: no lease that is held; acquire the memory first"
                )
            gpus[lease.gpu] = self.books.accounts[lease.gpu].device.index
        ordered = tuple(sorted(gpus, key=gpus.__getitem__))
        retry_ms = round(self.books.terms.retry_s * 1000)
        for gpu in ordered:
            if gpu in self._of_gpu or gpu in taken:
                holder = self.holder(gpu) or "another start-up"
                return Refused(
                    Reason.FROZEN, f"{holder} is starting on GPU {gpus[gpu]}; one at a time", retry_ms, holder=holder
                )
            coming = next(self.books.busy(self.books.accounts[gpu]), None)
            if coming is not None:
                reason = f"memory of {coming.holder} is still coming back on GPU {gpus[gpu]}"
                return Refused(Reason.RECLAIMING, reason, retry_ms, holder=coming.holder)
        row = StartupRow(secrets.token_hex(16), ask.client, ordered, ask.leases, now + ask.lasts_s)
        try:
            self.books.ledger.put_startup(row)
        except LedgerError as error:
            return Refused(Reason.LEDGER, str(error), retry_ms)
        self._rows[row.id] = row
        self._of_gpu.update(dict.fromkeys(ordered, row))
        self.told(row.client, ordered, "begun")
        return Begun(row.id, ordered, row.ends_s)

    def end(self, startup_id: str, outcome: str) -> bool:
        """Lower a barrier; False when there is none of that id (any more)."""
        row = self._rows.pop(startup_id, None)
        if row is None:
            return False
        for gpu in row.gpus:
            self._of_gpu.pop(gpu, None)
        self._forget(row.id)
        self.told(row.client, row.gpus, outcome)
        return True

    def tick(self, now: float) -> None:
        """Lower what is over, and raise what waits, in order."""
        for row in list(self._rows.values()):
            if now >= row.ends_s:
                self.end(row.id, "deadline")
            elif not any(lease_id in self.books.leases for lease_id in row.leases):
                self.end(row.id, "leases ended")
        taken: set[str] = set()
        for ask in list(self._waiting):
            answer = self.begin(ask, now, frozenset(taken))
            waits = isinstance(answer, Refused) and answer.code in (Reason.FROZEN, Reason.RECLAIMING)
            if waits and now < ask.deadline_s:
                taken |= {lease.gpu for name in ask.leases if (lease := self.books.leases.get(name)) is not None}
                continue
            self._waiting.remove(ask)
            ask.resolve(answer)

    def empty(self, answer: Refused) -> None:
        """Refuse everybody who waits: the arbiter goes away."""
        for ask in self._waiting:
            ask.resolve(answer)
        self._waiting.clear()

    def _forget(self, startup_id: str) -> None:
        try:
            self.books.ledger.remove_startup(startup_id)
        except LedgerError:
            # It has an end in the ledger as well.
            return
