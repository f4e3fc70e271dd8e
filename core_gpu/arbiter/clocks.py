"""The three clocks of a ledger that outlives its process: monotonic time, wall time, and which boot this is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Clocks", "boot_id"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what identifies this boot of the machine (random(4)), or an empty string where nothing does."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from; tests hand in their own.

    Args:
        monotonic: seconds; on Linux comparable between processes of one boot, and still while the machine sleeps.
        wall: seconds since 1970; may jump.
        boot: this boot's id; empty = the platform does not tell.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    boot: str = ""

    @classmethod
    def system(cls) -> Clocks:
        """Return the machine's clocks."""
        return cls(boot=boot_id())

    def left_s(self, expires_s: float, expires_wall_s: float, ttl_s: float) -> float:
        """Return how much of a lease of an earlier life is left, in seconds: 0 to `ttl_s`.

        Within one boot monotonic time goes on, so a jump of the wall clock changes nothing. Where boots have no
        names the wall clock is all there is; a jump can then end a lease early, but never stretch it beyond its ttl.

        Args:
            expires_s: monotonic.
            expires_wall_s: wall.
            ttl_s: what it was granted, or last renewed, for.
        """
        left = expires_s - self.monotonic() if self.boot else expires_wall_s - self.wall()
        return min(max(0.0, left), ttl_s)
