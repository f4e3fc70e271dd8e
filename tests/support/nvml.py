"""A scripted `pynvml`: the functions that the inventory calls, answering and failing as the driver's do.

Facts: nvidia-ml-py 13.615. `usedGpuMemory` is None under WDDM; MIG mode raises NOT_SUPPORTED on GPUs without MIG; an
empty MIG slot raises NOT_FOUND; memory of version 2 counts the driver's reserve apart; UUIDs are strings.
"""

# ruff: noqa: N802, N815  the names are the driver's
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

__all__ = ["Card", "ScriptedNvml"]

MIB = 1024 * 1024


@dataclass
class Card:
    """One GPU, or a MIG device of one; memory in MiB."""

    uuid: str
    total_mb: int
    free_mb: int
    reserved_mb: int = 400
    name: str = "NVIDIA Scripted"
    compute: dict[int, int | None] = field(default_factory=dict)
    graphics: dict[int, int | None] = field(default_factory=dict)
    mps: dict[int, int | None] = field(default_factory=dict)
    #: None = no MIG on this model; a slot that is None is empty.
    slices: list[Card | None] | None = None
    mig_on: bool = False
    #: What a call with this card raises: a name of pynvml's.
    lost: str = ""


class ScriptedNvml:
    """Stands for the module. `old` drivers know neither memory of version 2 nor MPS lists."""

    NVMLError = pynvml.NVMLError
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLError_NotFound = pynvml.NVMLError_NotFound
    NVMLError_FunctionNotFound = pynvml.NVMLError_FunctionNotFound
    NVMLError_ArgumentVersionMismatch = pynvml.NVMLError_ArgumentVersionMismatch
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self, *cards: Card, old: bool = False, driver: bool = True) -> None:
        self.cards = list(cards)
        self.old = old
        self.driver = driver
        self.open = 0

    def nvmlInit(self) -> None:
        """Load the driver."""
        if not self.driver:
            raise pynvml.NVMLError_LibraryNotFound
        self.open += 1

    def nvmlShutdown(self) -> None:
        """Let go of it."""
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        """Count GPUs, not MIG devices."""
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        """Return a GPU."""
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        """Return its UUID."""
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        """Return its name."""
        return card.name

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        """Return current and pending mode."""
        if card.slices is None:
            raise pynvml.NVMLError_NotSupported
        return [int(card.mig_on), int(card.mig_on)]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        """Count slots."""
        return len(card.slices or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        """Return the MIG device in a slot."""
        found = (card.slices or [])[index]
        if found is None:
            raise pynvml.NVMLError_NotFound
        return found

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> Any:
        """Return memory in bytes."""
        self._check(card)
        if version is not None and self.old:
            raise pynvml.NVMLError_FunctionNotFound
        used = card.total_mb - card.free_mb - (card.reserved_mb if version is not None else 0)
        return SimpleNamespace(total=card.total_mb * MIB, free=card.free_mb * MIB, used=used * MIB)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, card: Card) -> list[Any]:
        """Return CUDA processes."""
        return self._rows(card, card.compute)

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, card: Card) -> list[Any]:
        """Return processes that draw."""
        return self._rows(card, card.graphics)

    def nvmlDeviceGetMPSComputeRunningProcesses_v3(self, card: Card) -> list[Any]:
        """Return clients of MPS."""
        if self.old:
            raise pynvml.NVMLError_FunctionNotFound
        return self._rows(card, card.mps)

    @contextmanager
    def losing(self, card: Card, error: str) -> Iterator[None]:
        """Let every call with a card fail for the length of the block."""
        card.lost = error
        try:
            yield
        finally:
            card.lost = ""

    def _rows(self, card: Card, held: dict[int, int | None]) -> list[Any]:
        self._check(card)
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if used is None else used * MIB, gpuInstanceId=0)
            for pid, used in held.items()
        ]

    def _check(self, card: Card) -> None:
        if card.lost:
            raise getattr(pynvml, card.lost)
