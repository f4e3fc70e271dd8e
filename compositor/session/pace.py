"""The clock that sessions tick by; a test hands in one that does not wait."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["MonotonicPace", "Pace"]


class Pace(Protocol):
    """Monotonic time, and waiting for it."""

    def now(self) -> float:
        """Return the time in seconds."""
        ...

    async def until(self, at_s: float) -> None:
        """Return at `at_s`, or at once if that is over; other tasks run in either case."""
        ...


class MonotonicPace:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    async def until(self, at_s: float) -> None:
        """Return at `at_s`, or at once if that is over."""
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
