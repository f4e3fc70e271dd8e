"""An arbiter without a network, on clocks that stand still and GPUs that say what a test tells them."""

from __future__ import annotations

from pathlib import Path

from core_gpu.arbiter.allocator import Rule
from core_gpu.arbiter.arbiter import Arbiter
from core_gpu.arbiter.books import Books
from core_gpu.arbiter.clocks import Clocks
from core_gpu.arbiter.ids import LeaseIds
from core_gpu.arbiter.inventory import Device, Measured, Reading
from core_gpu.arbiter.lease import Ask, Granted, Lease, Refused
from core_gpu.arbiter.ledger import Ledger
from core_gpu.arbiter.line import Waiter
from core_gpu.arbiter.terms import Terms
from streamkit.flow.clock import ManualClock

TERMS = Terms(rule=Rule(0.9, 0), min_residency_s=0, residue_mb=512, grace_s=5, make_room_s=10, reclaim_s=60)
KEY = b"k" * 32


class Rig:
    """One arbiter.

    Args:
        folder: of its ledger.
        totals_mb: its GPUs.
        measures: False = a static inventory.
        terms: how it lends.
        clock: goes on in a second life.
    """

    def __init__(
        self,
        folder: Path,
        *totals_mb: int,
        measures: bool = False,
        terms: Terms = TERMS,
        clock: ManualClock | None = None,
    ) -> None:
        self.clock = ManualClock(1_000.0) if clock is None else clock
        self.wall = 1_700_000_000.0
        self.living: set[int] = set()
        self.events: list[str] = []
        self.devices = [Device(f"GPU-{index}", index, "scripted", total) for index, total in enumerate(totals_mb)]
        self.ledger = Ledger(folder, Clocks(self.clock, lambda: self.wall + self.clock(), "boot-1"))
        self.books = Books(self.devices, measures, self.ledger, LeaseIds(KEY), terms, self.living.__contains__)
        self.arbiter = Arbiter(self.books, self.clock)
        self.books.hooks.append(lambda happening: self.events.append(f"{happening.name} {happening.lease.client}"))
        self.arbiter.restore(self.ledger)
        self.answers: dict[str, Granted | Refused] = {}
        self.waiters: dict[str, Waiter] = {}
        if measures:
            self.measure()

    def ask(self, client: str, mb: int, **fields) -> Granted | Refused | Waiter:
        """Ask, and keep an answer that comes later in `answers`."""
        found = self.arbiter.acquire(
            Ask(client, "m", mb, **fields), lambda answer: self.answers.update({client: answer})
        )
        if isinstance(found, Waiter):
            self.waiters[client] = found
        return found

    def grant(self, client: str, mb: int, **fields) -> Lease:
        """Ask for what must be granted."""
        found = self.ask(client, mb, **fields)
        assert isinstance(found, Granted), found
        return found.lease

    def measure(
        self, gpu: int = 0, used_mb: int | None = None, processes: dict[int, int | None] | None = None
    ) -> None:
        """Hand in a measurement of one GPU, taken a moment after all that happened; the others are empty."""
        self.clock.advance(0.001)
        found = {device.id: Measured(0) for device in self.devices}
        held = processes or {}
        total = sum(used or 0 for used in held.values()) if used_mb is None else used_mb
        found[f"GPU-{gpu}"] = Measured(total, held)
        self.arbiter.measured(Reading(self.clock(), found))

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.advance(seconds)
        self.arbiter.tick()

    def close(self) -> None:
        """End this life."""
        self.ledger.close()
