"""Two threads beside the event loop: one measures GPUs, one moves the ledger's log. Neither is ever waited for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from core_gpu.arbiter.inventory import Inventory, InventoryError, Reading
from core_gpu.arbiter.ledger import Ledger, LedgerError
from streamkit.ops import log

__all__ = ["Checkpointer", "Sampler"]

_log = logging.getLogger(__name__)
_CHECKPOINT_S: Final = 1.0
_JOIN_S: Final = 5.0
#: A log shorter than this is left for the next time.
_LOG_BYTES: Final = 256 * 1024


class Sampler:
    """Measures again and again on a thread, and hands each reading to the event loop.

    Args:
        inventory: what is measured.
        every_s: pause between two readings.
        took: called on the loop with each reading.
    """

    def __init__(self, inventory: Inventory, every_s: float, took: Callable[[Reading], None]) -> None:
        self.failures = 0
        self.read_s = 0.0  #: How long the last reading took.
        self._inventory = inventory
        self._every_s = every_s
        self._took = took
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Take a first reading, then go on with the thread. A first one that fails is tried again like any other."""
        if not self._inventory.measures:
            return
        loop = asyncio.get_running_loop()
        first = await loop.run_in_executor(None, self._read)
        if first is not None:
            self._took(first)
        self._thread = threading.Thread(target=self._run, args=(loop,), name="sampler", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the reading that it is in."""
        self._stop.set()
        if self._thread is not None:
            # A driver that hangs must not keep the process.
            await asyncio.to_thread(self._thread.join, _JOIN_S)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.wait(self._every_s):
            reading = self._read()
            if reading is None:
                continue
            try:
                loop.call_soon_threadsafe(self._took, reading)
            except RuntimeError:
                return  # The loop is closed: the process ends.

    def _read(self) -> Reading | None:
        begun = time.monotonic()
        try:
            reading = self._inventory.read()
        except InventoryError as error:
            self.failures += 1
            if self.failures == 1 or self.failures % 100 == 0:
                log.event(_log, "inventory.failed", level=logging.WARNING, why=str(error), failures=self.failures)
            return None
        self.read_s = time.monotonic() - begun
        return reading


class Checkpointer:
    """Moves the ledger's log into its database on a thread, where waiting for the disk harms nobody.

    Args:
        ledger: whose log.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.failures = 0
        self._ledger = ledger
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the checkpoint that it is in."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, _JOIN_S)

    def _run(self) -> None:
        while not self._stop.wait(_CHECKPOINT_S):
            if self._ledger.log_bytes < _LOG_BYTES:
                continue
            try:
                self._ledger.checkpoint()
            except LedgerError as error:
                self.failures += 1
                if self.failures == 1:
                    log.event(_log, "ledger.checkpoint_failed", level=logging.WARNING, why=str(error))
