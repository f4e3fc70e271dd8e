"""The arbiter without a network: every question it answers, and what it does as time goes by.

One thread owns it. Nothing here waits: who must wait leaves a callback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from core_gpu.arbiter.books import Books
from core_gpu.arbiter.inventory import Reading
from core_gpu.arbiter.lease import Ask, Granted, Happening, Lease, Reason, Refused
from core_gpu.arbiter.ledger import Ledger
from core_gpu.arbiter.line import Line, Waiter
from core_gpu.arbiter.startups import Begun, StartupAsk, Startups
from streamkit.flow.clock import Clock
from streamkit.flow.queue import QueueFull
from streamkit.ops import log

__all__ = ["Arbiter"]

_log = logging.getLogger(__name__)
_AWAY = Refused(Reason.DRAINING, "the arbiter is stopping: ask again when it is back", 1_000)
Answer = Callable[[Granted | Refused], None]


@dataclass(slots=True)
class Arbiter:
    """Leases, the waiting line and start-ups, as one.

    Args:
        books: what there is.
        clock: monotonic seconds.
        on_startup: called with a start-up's client, its GPUs and what became of it.
    """

    books: Books
    clock: Clock
    on_startup: Callable[[str, tuple[str, ...], str], None] = lambda _client, _gpus, _outcome: None
    line: Line = field(init=False)
    startups: Startups = field(init=False)
    draining: bool = False

    def __post_init__(self) -> None:
        self.startups = Startups(self.books, self._startup)
        self.line = Line(self.books, self.startups.holder, self.clock)
        self.books.hooks.append(_logged)

    def restore(self, ledger: Ledger) -> None:
        """Take over what an earlier life left."""
        now = self.clock()
        found = ledger.restored()
        self.books.restore(found.leases, now)
        self.startups.restore(found.startups, now)
        if found.leases or found.voided:
            log.event(_log, "ledger.restored", leases=len(found.leases), voided_ledgers=found.voided)

    def acquire(self, ask: Ask, answer: Answer) -> Granted | Refused | Waiter:
        """Answer a request, or put it into the line; then `answer` is called, later."""
        now = self.clock()
        if self.draining:
            return _AWAY
        if len(self.books.leases) >= self.books.terms.max_leases:
            reason = f"there are {len(self.books.leases)} leases already, as many as there may be (max_leases)"
            return Refused(Reason.TOO_MANY, reason, 1_000, 0, ask.mb)
        if not len(self.line):
            found = self.line.serve(ask, now)
            if isinstance(found, Granted) or not ask.wait_s or not _may_wait(found):
                return found
        return self._through_line(ask, answer, now)

    def _through_line(self, ask: Ask, answer: Answer, now: float) -> Granted | Refused | Waiter:
        """Let a request take its turn: one that does not wait either is served now, in order, or not."""
        at_once: list[Granted | Refused] = []
        waiter = Waiter(ask, now + ask.wait_s, at_once.append)
        try:
            self.line.push(waiter)
        except QueueFull as full:
            return Refused(Reason.QUEUE_FULL, f"{full}: ask again later", 1_000, 0, ask.mb)
        # Refusals that waiting cannot mend are found here, too; others in the line are served as well.
        alone = self.line.serve(ask, now, taken=set(self.books.accounts))
        if isinstance(alone, Granted) or not _may_wait(alone):
            self.line.leave(waiter, now)
            return alone
        self.line.pump(now)
        if at_once:
            return at_once[0]
        if ask.wait_s:
            waiter.resolve = answer
            return waiter
        self.line.leave(waiter, now)
        return waiter.refused or alone

    def cancel(self, waiter: Waiter) -> None:
        """Take a request out of the line whose client is gone."""
        now = self.clock()
        self.line.leave(waiter, now)
        self.line.pump(now)

    def release(self, lease_id: str) -> bool:
        """Take a lease back; False for one that was never issued."""
        now = self.clock()
        known = self.books.release(lease_id, now)
        self.line.pump(now)
        return known

    def renew(
        self, lease_id: str, *, ttl_s: float | None = None, loaded: bool = False, pids: frozenset[int] = frozenset()
    ) -> Lease | Refused:
        """Extend a lease, or say why not."""
        return self.books.renew(lease_id, self.clock(), ttl_s=ttl_s, loaded=loaded, pids=pids)

    def begin_startup(
        self,
        client: str,
        leases: tuple[str, ...],
        lasts_s: float,
        wait_s: float,
        answer: Callable[[Begun | Refused], None],
    ) -> Begun | Refused | StartupAsk:
        """Raise a start-up barrier, or let it wait; then `answer` is called, later."""
        now = self.clock()
        if self.draining:
            return _AWAY
        ask = StartupAsk(client, leases, lasts_s or self.books.terms.startup_s, now + wait_s, answer)
        found = self.startups.begin(ask, now)
        if isinstance(found, Refused) and wait_s and found.code in (Reason.FROZEN, Reason.RECLAIMING):
            self.startups.wait(ask)
            return ask
        return found

    def end_startup(self, startup_id: str, *, healthy: bool) -> bool:
        """Lower a start-up barrier; False when it is not up (any more)."""
        ended = self.startups.end(startup_id, "healthy" if healthy else "failed")
        self.tick()
        return ended

    def measured(self, reading: Reading) -> None:
        """Take a measurement, and do what it makes possible."""
        self.books.measured(reading)
        self.tick()

    def tick(self) -> None:
        """Do what is due; called a few times a second."""
        now = self.clock()
        self.books.expire(now)
        self.line.press(now)
        self.books.settle(now)
        self.startups.tick(now)
        self.line.time_out(now)
        self.line.pump(now)

    def drain(self) -> None:
        """Grant nothing more and let nobody wait; leases stay."""
        self.draining = True
        self.line.empty(_AWAY, self.clock())
        self.startups.empty(_AWAY)

    def _startup(self, client: str, gpus: tuple[str, ...], outcome: str) -> None:
        self.books.sequence += 1
        log.event(_log, f"startup.{outcome.replace(' ', '_')}", client=client, gpus=list(gpus))
        self.on_startup(client, gpus, outcome)


def _may_wait(refused: Refused) -> bool:
    return refused.code in (
        Reason.INSUFFICIENT,
        Reason.STALE_INVENTORY,
        Reason.FROZEN,
        Reason.GROUP_HELD,
    )


def _logged(happening: Happening) -> None:
    """Log what is out of the ordinary; grants and releases are counted, not logged."""
    if happening.name in ("granted", "release", "back", "loaded", "moved"):
        return
    lease = happening.lease
    log.event(
        _log, f"lease.{happening.name.replace(' ', '_')}",
        level=logging.INFO if happening.name == "withdraw" else logging.WARNING,
        lease=lease.id[:8], client=lease.client, model=lease.model, gpu=lease.gpu, mb=lease.reserved_mb,
        why=happening.reason,
    )  # fmt: skip
