"""The keys in force: what the store said when it could last be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from control.store import Store, StoreError
from streamkit.ops import log
from streamkit.wire.keys import KeySnapshot

__all__ = ["Keyring"]

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_S: Final = 5.0


class Keyring:
    """Looks at the store now and then, on a thread of its own: a lock or a slow disk holds up no edge.

    A store that cannot be read changes nothing: the last keys stay in force, which is said once and counted.

    Args:
        store: open; its first reading is made here.
        required: demand keys though there was never one.
        poll_ms: pause between two looks.

    Raises:
        StoreError: the store cannot be read.
    """

    def __init__(self, store: Store, *, required: bool, poll_ms: int) -> None:
        self._store = store
        self._required = required
        self._poll_s = poll_ms / 1000
        self._stale = False
        self.snapshot = store.snapshot(required=required)
        #: Told of each new snapshot.
        self.on_change: Callable[[KeySnapshot], None] | None = None
        #: Looks that failed.
        self.errors = 0

    async def watch(self) -> None:
        """Look for ever; cancelled, it returns when the look under way is over."""
        loop = asyncio.get_running_loop()
        failures = 0
        with ThreadPoolExecutor(1, thread_name_prefix="keys") as thread:
            while True:
                await asyncio.sleep(min(self._poll_s * 2 ** min(failures, 10), max(_LONGEST_PAUSE_S, self._poll_s)))
                try:
                    found = await loop.run_in_executor(thread, self._look)
                except StoreError as error:
                    self.errors += 1
                    failures += 1
                    if failures == 1:
                        in_force = len(self.snapshot.keys)
                        log.event(_log, "keys.unreadable", level=logging.ERROR, detail=str(error), in_force=in_force)
                    continue
                if failures:
                    log.event(_log, "keys.readable", keys=len(self.snapshot.keys))
                failures = 0
                if found is not None and found != self.snapshot:
                    self.snapshot = found
                    log.event(_log, "keys.changed", version=found.version, keys=len(found.keys))
                    if self.on_change is not None:
                        self.on_change(found)

    def _look(self) -> KeySnapshot | None:
        """Return a new snapshot; None = nothing has changed."""
        # A change that was seen and could not be read is not forgotten.
        self._stale = self._store.changed() or self._stale
        if not self._stale:
            return None
        found = self._store.snapshot(required=self._required)
        self._stale = False
        return found
