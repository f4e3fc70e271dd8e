"""GPU memory as a driver would show it for this process: what is held, and what goes back late, or never.

No GPU is involved. `GET /sim/gpu` shows it, `POST /sim/gpu` scripts it, so that whoever frees memory by an engine's
API can be shown an engine that says 200 and frees nothing (facts: gpu-backends §1.1, §2.4 no. 6, 7).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec

__all__ = ["Vram", "VramScript"]


class VramScript(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /sim/gpu` may say; what is left out stays as it is."""

    #: Memory goes back so long after the engine said so.
    release_ms: float | msgspec.UnsetType = msgspec.UNSET
    #: It never goes back.
    leaks: bool | msgspec.UnsetType = msgspec.UNSET
    #: Held beside everything else from now on, whatever the engine does.
    extra_bytes: int | msgspec.UnsetType = msgspec.UNSET


class Vram:
    """What one simulated process holds.

    Args:
        loop: for late releases.
        release_ms: how late memory goes back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, release_ms: float) -> None:
        self._loop = loop
        self._release_ms = release_ms
        self._leaks = False
        self._extra_bytes = 0
        self._held: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def held_bytes(self) -> int:
        """All that is held now."""
        return sum(self._held.values()) + self._extra_bytes

    def take(self, name: str, size_bytes: int) -> None:
        """Hold `size_bytes` under `name`; a release of it that is still to come is called off."""
        if timer := self._timers.pop(name, None):
            timer.cancel()
        self._held[name] = size_bytes

    def give(self, name: str) -> None:
        """Let `name` go: at once, late, or never, as scripted."""
        if self._leaks or name not in self._held or name in self._timers:
            return
        if self._release_ms:
            self._timers[name] = self._loop.call_later(self._release_ms / 1000, self._gone, name)
        else:
            self._gone(name)

    def script(self, wanted: VramScript) -> None:
        """Do as `POST /sim/gpu` says."""
        if wanted.release_ms is not msgspec.UNSET:
            self._release_ms = wanted.release_ms
        if wanted.leaks is not msgspec.UNSET:
            self._leaks = wanted.leaks
        if wanted.extra_bytes is not msgspec.UNSET:
            self._extra_bytes = wanted.extra_bytes

    def page(self) -> dict[str, Any]:
        """Return `GET /sim/gpu`."""
        return {
            "pid": os.getpid(), "held_bytes": self.held_bytes, "held": dict(self._held),
            "extra_bytes": self._extra_bytes, "release_ms": self._release_ms, "leaks": self._leaks,
        }  # fmt: skip

    def close(self) -> None:
        """No timer is left behind."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _gone(self, name: str) -> None:
        self._timers.pop(name, None)
        self._held.pop(name, None)
