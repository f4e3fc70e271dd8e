"""The gate: every mix on every number of GPUs, several seeds each, and what may at most be wasted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from core_gpu.arbiter.allocator import Choice, best_fit
from core_gpu.arbiter.allocator import place as allocate
from core_gpu.waste.drive import Place, Waste, drive
from core_gpu.waste.mixes import traces

__all__ = ["LIMITS", "SEEDS", "Case", "cases", "failures"]

SEEDS: Final = (1, 2, 3)
#: Shares of the memory beneath the cap. The total is the user's figure; the parts are ours, so that one cannot grow
#: unseen while the other shrinks.
LIMITS: Final = {"estimate_error": 0.05, "stranded": 0.08, "total": 0.10}


@dataclass(frozen=True, slots=True)
class Case:
    """One mix on so many GPUs: the mean over the seeds."""

    mix: str
    gpus: int
    waste: Waste


def cases(choice: Choice = best_fit, place: Place = allocate, seeds: tuple[int, ...] = SEEDS) -> Iterator[Case]:
    """Yield every case with this allocator."""
    for name, mix in traces().mixes.items():
        for gpus in mix.gpus:
            yield Case(name, gpus, _mean([drive(mix, gpus, seed, choice=choice, place=place) for seed in seeds]))


def failures(found: Iterator[Case] | list[Case]) -> list[str]:
    """Return one line for each limit that a case breaks."""
    lines = []
    for case in found:
        for part, limit in LIMITS.items():
            share = getattr(case.waste, part)
            if not share < limit:
                lines.append(f"{case.mix} on {case.gpus}: {part} {share:.1%}, must be below {limit:.0%}")
        if case.waste.over_cap:
            lines.append(f"{case.mix} on {case.gpus}: more than the cap in use at {case.waste.over_cap} moments")
    return lines


def _mean(found: list[Waste]) -> Waste:
    means = {field.name: sum(getattr(waste, field.name) for waste in found) / len(found) for field in fields(Waste)}
    return Waste(**{**means, "over_cap": sum(waste.over_cap for waste in found)})
