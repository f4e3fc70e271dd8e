"""What GPUs there are and what is measured on them: the protocol, and an inventory that is only told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Device", "Inventory", "InventoryError", "Measured", "Reading", "StaticInventory"]


class InventoryError(Exception):
    """The GPUs cannot be found or read; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or one MIG device of a GPU.

    Args:
        id: UUID, as `CUDA_VISIBLE_DEVICES` takes it.
        index: its place in the enumeration.
        name: for people.
        total_mb: MiB.
        mig: it is a slice of a GPU.
    """

    id: str
    index: int
    name: str
    total_mb: int
    mig: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One device's memory.

    Args:
        used_mb: everybody's, what the driver keeps for itself included, so that used + free = total.
        processes: by process id; None where the driver lists a process but not what it holds (WDDM).
    """

    used_mb: int
    processes: Mapping[int, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """All devices at one moment.

    Args:
        taken_s: when the reading began, in monotonic seconds: what happened after it may not be in it.
        devices: by id; one that could not be read is missing.
    """

    taken_s: float
    devices: Mapping[str, Measured]


class Inventory(Protocol):
    """Where GPUs come from. `read` may block: it is called by one thread that does nothing else."""

    #: `nvml` or `static`.
    kind: str
    #: False = nothing is measured: used memory is what lease holders say.
    measures: bool

    def devices(self) -> Sequence[Device]:
        """Return the devices, in the order of their index; the same at every call.

        Raises:
            InventoryError: they cannot be found.
        """

    def read(self) -> Reading:
        """Measure all devices.

        Raises:
            InventoryError: nothing could be read.
        """

    def close(self) -> None:
        """Let go of the driver."""


class StaticInventory:
    """GPUs by configuration; measured is what leases say.

    Args:
        totals_mb: memory of each GPU, in MiB.
    """

    kind = "static"
    measures = False

    def __init__(self, totals_mb: Sequence[int]) -> None:
        self._devices = tuple(
            Device(f"static-{index}", index, "configured", total_mb) for index, total_mb in enumerate(totals_mb)
        )

    def devices(self) -> Sequence[Device]:
        """Return the devices, in the order of their index."""
        return self._devices

    def read(self) -> Reading:
        """Measure nothing."""
        return Reading(time.monotonic(), {})

    def close(self) -> None:
        """Do nothing."""
