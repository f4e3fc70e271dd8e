"""What the registry keeps: devices, what is remembered of each model, and those that are loaded."""

from __future__ import annotations

from dataclasses import dataclass

from core_gpu.inference.leases import ModelLease
from core_gpu.inference.runner import Runner
from core_gpu.inference.shapes import EncoderShape, ModelShape

__all__ = ["Device", "Loaded", "Record"]


@dataclass(slots=True)
class Device:
    """One GPU, or the CPU in its place.

    Args:
        index: counted from 0.
        total_mb: for models.
    """

    index: int
    total_mb: int
    used_mb: int = 0
    models: int = 0


@dataclass(slots=True)
class Record:
    """What is remembered of a model, loaded or not."""

    name: str
    requests: int = 0
    frames: int = 0
    runs: int = 0
    run_s: float = 0.0
    loads: int = 0
    evictions: int = 0
    used_s: float = 0.0
    #: Known once it was loaded.
    shape: ModelShape | EncoderShape | None = None


@dataclass(eq=False, slots=True)
class Loaded:
    """A model that is loaded."""

    runner: Runner
    device: Device
    mb: int
    lease: ModelLease
    record: Record
    load_s: float
    #: Calls that have it.
    using: int = 0
    #: It is to go as soon as nobody has it.
    leaving: bool = False

    @property
    def requests(self) -> int:
        """Requests so far."""
        return self.record.requests

    @property
    def used_s(self) -> float:
        """When the last one ended."""
        return self.record.used_s
