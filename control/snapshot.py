"""The numbered snapshot and those who wait for the next one.

The sequence rises only when something changed. A life of control starts counting at the millisecond of its start, so
that in an edge's eyes the sequence goes on rising over a restart; and a sequence that control does not have, whatever
the reason, is answered at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Final

import msgspec

from control.registry import Registry
from control.view import View
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.ids import Instance
from streamkit.wire.state import Header

__all__ = ["Board"]

#: Waiters woken by one change share one encoding; its ages are off by no more than this.
_REUSE_S: Final = 0.02


class Board:
    """Shows the registry's state under a sequence number.

    Args:
        registry: whose changes it numbers.
        instance: this life of control.
        max_waits: the most that may wait; more are answered at once.
        clock: monotonic seconds.
    """

    def __init__(self, registry: Registry, instance: Instance, *, max_waits: int, clock: Clock = MONOTONIC) -> None:
        self.instance = str(instance)
        self.sequence = int(instance.incarnation, 16)
        #: The sequence at which something changed that routing depends on; what was spent is no such thing.
        self.routes = self.sequence
        self._registry = registry
        self._max_waits = max_waits
        self._clock = clock
        self._content = registry.content()
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False
        self._view: View | None = None
        self._encoded = b""
        self._encoded_at: tuple[int, float] = (-1, 0.0)
        registry.on_change = self.refresh

    @property
    def waiting(self) -> int:
        """Syncs that wait for news now."""
        return len(self._waiting)

    @property
    def view(self) -> View:
        """What decisions look at; the same object as long as nothing changes."""
        view = self._view
        if view is None or view.sequence != self.sequence:
            view = self._view = self._registry.view(self.instance, self.sequence)
        return view

    def refresh(self) -> None:
        """Compare with the registry; a difference is a new sequence and wakes all who wait."""
        content = self._registry.content()
        if content == self._content:
            return
        before, self._content = self._content, content
        self.sequence += 1
        if dataclasses.replace(content, spent=before.spent) != before:
            self.routes = self.sequence
        self._wake()

    def encoded(self) -> bytes:
        """Return the snapshot as JSON."""
        now = self._clock()
        sequence, encoded_at = self._encoded_at
        if sequence != self.sequence or now - encoded_at > _REUSE_S:
            header = Header(instance=self.instance, sequence=self.sequence)
            self._encoded = msgspec.json.encode(self._registry.snapshot(header, self.routes))
            self._encoded_at = (self.sequence, now)
        return self._encoded

    async def news(self, after: int, wait_ms: int, gone: asyncio.Future[object]) -> None:
        """Return when the sequence is not `after`, when `wait_ms` are over, or when the reader is `gone`."""
        if self.sequence != after or wait_ms <= 0 or self._closed or len(self._waiting) >= self._max_waits:
            return
        change = asyncio.get_running_loop().create_future()
        self._waiting.add(change)
        try:
            await asyncio.wait((change, gone), timeout=wait_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(change)

    def close(self) -> None:
        """Answer all who wait, and let nobody wait any more: control is stopping."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for change in self._waiting:
            if not change.done():
                change.set_result(None)
