"""The arbiter's numbers, in the units that the code reckons in."""

from __future__ import annotations

from dataclasses import dataclass, field

from core_gpu.arbiter.allocator import Rule

__all__ = ["Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How the arbiter lends. Times are seconds; `core_gpu.arbiter.settings` explains each."""

    rule: Rule = field(default_factory=Rule)
    stale_s: float = 0.5
    max_leases: int = 65_536
    max_waiting: int = 1_024
    ageing_s: float = 5.0
    min_residency_s: float = 10.0
    grace_s: float = 5.0
    make_room_s: float = 10.0
    reclaim_s: float = 60.0
    residue_mb: int = 512
    restart_grace_s: float = 5.0
    startup_s: float = 600.0
    retry_s: float = 0.25
