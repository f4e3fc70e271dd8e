"""Which models a simulated TensorFlow Serving has, and in which state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from simulator.settings import SimulatorSettings
from simulator.vram import Vram

__all__ = ["AVAILABLE", "END", "LOADING", "NAMES", "Versions"]

LOADING: Final = 20
AVAILABLE: Final = 30
END: Final = 50
#: As REST says them.
NAMES: Final = {LOADING: "LOADING", AVAILABLE: "AVAILABLE", END: "END"}
_VERSION: Final = 1


class Versions:
    """One version of each model; TensorFlow gives no memory back before its process ends.

    Args:
        settings: the models at the start, and how long a load takes.
        vram: what they hold.
        loop: for loads.
    """

    def __init__(self, settings: SimulatorSettings, vram: Vram, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._vram = vram
        self._loop = loop
        self._states: dict[str, int] = {}
        self._loads: dict[str, asyncio.TimerHandle] = {}
        self.reload(settings.models)

    def reload(self, names: Sequence[str]) -> None:
        """Serve these models and no others."""
        for name in names:
            if self._states.get(name) not in (LOADING, AVAILABLE):
                self._states[name] = LOADING
                self._vram.take(name, self._settings.weights_bytes)
                if self._settings.load_ms:
                    self._loads[name] = self._loop.call_later(self._settings.load_ms / 1000, self._loaded, name)
                else:
                    self._loaded(name)
        for name in set(self._states) - set(names):
            if timer := self._loads.pop(name, None):
                timer.cancel()
            self._states[name] = END

    def states(self, name: str) -> dict[int, int]:
        """Return a model's versions and their states; empty = it was never there."""
        return {_VERSION: self._states[name]} if name in self._states else {}

    def serving(self, name: str, version: int | None) -> int | None:
        """Return the version that would answer, or None."""
        fits = version in (None, _VERSION) and self._states.get(name) == AVAILABLE
        return _VERSION if fits else None

    def close(self) -> None:
        """No timer is left behind."""
        for timer in self._loads.values():
            timer.cancel()

    def _loaded(self, name: str) -> None:
        self._loads.pop(name, None)
        self._states[name] = AVAILABLE
