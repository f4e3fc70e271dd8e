"""The grant rule and the choice of a GPU: pure functions, no I/O, no clock, no state (design §6).

The contract, for the arbiter, the planner and the waste gate alike. All sizes are whole MiB, called `_mb` as NVML's
tools and the wire do. A lease of `request` fits on a GPU iff

    used + Σ max(0, reservedᵢ - usedᵢ) + request + margin ≤ cap            cap = ⌊total x cap_share⌋

`used` is what was measured on the device, whoever holds it; the sum is what lease holders may still take
(`pending_mb`). Ended leases count for as long as their memory may come back only later: the caller keeps them among
its holdings until then. Memory earmarked for a pre-emptor is taken for everybody else. A GPU that is not `open` (its
snapshot is old, or a start-up holds its barrier) takes nothing, whatever its figures say.

`place` gives the GPU, or a `Refusal` that says how much there was and how much was needed. The default choice is best
fit: the GPU with the least room left. `cheapest` picks the holders that a pre-emption costs least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "FITS",
    "Choice",
    "Gpu",
    "Holding",
    "Placement",
    "Refusal",
    "Rule",
    "Victim",
    "best_fit",
    "cheapest",
    "first_fit",
    "pending_mb",
    "place",
    "room_mb",
    "worst_fit",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """The numbers of the grant rule.

    Args:
        cap_share: share of a GPU's memory that all its users together may take, 0 to 1.
        margin_mb: kept free beneath the cap for what no lease asks for: contexts, workspaces, rounding.
    """

    cap_share: float = 0.9
    margin_mb: int = 256

    def cap_mb(self, total_mb: int) -> int:
        """Return the cap of a GPU with so much memory."""
        # 0.9 of 24,000 is 21,600, whatever binary fractions say.
        return math.floor(total_mb * self.cap_share + 1e-6)


@dataclass(frozen=True, slots=True)
class Holding:
    """One lease's part in the sum.

    Args:
        reserved_mb: what it was granted.
        used_mb: what its processes hold of that, as measured (0 where nothing is known of them).
    """

    reserved_mb: int
    used_mb: int = 0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG device, at one moment.

    Args:
        id: its UUID.
        index: its place in the enumeration.
        total_mb: its memory.
        used_mb: measured, everybody's.
        pending_mb: `pending_mb(...)` of its holdings.
        earmarked_mb: owed to pre-emptors beyond what their victims still hold.
        open: whether it may take leases at all just now.
    """

    id: str
    index: int
    total_mb: int
    used_mb: int = 0
    pending_mb: int = 0
    earmarked_mb: int = 0
    open: bool = True


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a request goes, and the room that is left there afterwards."""

    gpu: Gpu
    left_mb: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes nowhere.

    Args:
        free_mb: the largest room on an open GPU, never negative.
        needed_mb: what was asked for.
        never: no GPU could take it even when empty.
        closed: a GPU could take it, but is not open just now.
    """

    free_mb: int
    needed_mb: int
    never: bool = False
    closed: bool = False


#: Orders the GPUs that fit: the smallest key wins, then the lowest index. Gets the GPU and the room left on it.
Choice = Callable[[Gpu, int], int]


def best_fit(_gpu: Gpu, left_mb: int) -> int:
    """Prefer the GPU with the least room left, so that large requests find large rooms."""
    return left_mb


def worst_fit(_gpu: Gpu, left_mb: int) -> int:
    """Prefer the GPU with the most room left."""
    return -left_mb


def first_fit(gpu: Gpu, _left_mb: int) -> int:
    """Prefer the lowest index."""
    return gpu.index


FITS: Final[dict[str, Choice]] = {"best": best_fit, "first": first_fit, "worst": worst_fit}


def pending_mb(holdings: Iterable[Holding]) -> int:
    """Return Σ max(0, reservedᵢ - usedᵢ): what holders may still take."""
    return sum(max(0, holding.reserved_mb - holding.used_mb) for holding in holdings)


def room_mb(gpu: Gpu, rule: Rule) -> int:
    """Return the largest request that fits; negative where the cap is exceeded already. `open` is not looked at."""
    return rule.cap_mb(gpu.total_mb) - gpu.used_mb - gpu.pending_mb - gpu.earmarked_mb - rule.margin_mb


def place(gpus: Iterable[Gpu], request_mb: int, rule: Rule, choice: Choice = best_fit) -> Placement | Refusal:
    """Return the GPU for a request of `request_mb`, or why there is none.

    Args:
        gpus: those that the request may go to.
        request_mb: MiB, more than 0.
        rule: cap and margin.
        choice: among the GPUs that fit.
    """
    best: tuple[int, int, Gpu, int] | None = None
    largest, possible, closed = 0, False, False
    for gpu in gpus:
        possible = possible or request_mb + rule.margin_mb <= rule.cap_mb(gpu.total_mb)
        left = room_mb(gpu, rule) - request_mb
        if not gpu.open:
            closed = closed or left >= 0
            continue
        largest = max(largest, left + request_mb)
        if left >= 0:
            key = (choice(gpu, left), gpu.index, gpu, left)
            if best is None or key[:2] < best[:2]:
                best = key
    if best is not None:
        return Placement(best[2], best[3])
    return Refusal(largest, request_mb, never=not possible, closed=closed)


@dataclass(frozen=True, slots=True)
class Victim:
    """A lease that may be pre-empted.

    Args:
        id: the lease.
        priority: base priority, 1 = highest.
        frees_mb: what the rule gains when it is gone: max(reserved, used).
    """

    id: str
    priority: int
    frees_mb: int


#: Beyond so many candidates the exact search gives way to a greedy one.
_EXACT: Final = 12


def cheapest(victims: Sequence[Victim], needed_mb: int) -> tuple[Victim, ...]:
    """Return the set of victims that frees at least `needed_mb` at the least cost; empty where even all are too few.

    Cost, in this order: the most important victim's priority, the memory taken away, the number of victims. So work
    of class 9 goes before anything of class 8, and nothing larger goes than must. With more than twelve candidates of
    a class the memory is only nearly the least.
    """
    if needed_mb <= 0:
        return ()
    chosen: list[Victim] = []
    for floor in sorted({victim.priority for victim in victims}, reverse=True):
        chosen += [victim for victim in victims if victim.priority == floor]
        if sum(victim.frees_mb for victim in chosen) >= needed_mb:
            return _least(sorted(chosen, key=lambda victim: (-victim.frees_mb, victim.id)), needed_mb)
    return ()


def _least(victims: list[Victim], needed_mb: int) -> tuple[Victim, ...]:
    """Return the subset with the least memory that is enough; `victims` from large to small, together enough."""
    if len(victims) > _EXACT:
        return _nearly_least(victims, needed_mb)
    best: tuple[int, int, tuple[Victim, ...]] | None = None
    for bits in range(1, 1 << len(victims)):
        subset = tuple(victim for place, victim in enumerate(victims) if bits >> place & 1)
        freed = sum(victim.frees_mb for victim in subset)
        if freed >= needed_mb and (best is None or (freed, len(subset)) < best[:2]):
            best = (freed, len(subset), subset)
    return best[2] if best is not None else ()


def _nearly_least(victims: list[Victim], needed_mb: int) -> tuple[Victim, ...]:
    single = next((victim for victim in reversed(victims) if victim.frees_mb >= needed_mb), None)
    if single is not None:
        return (single,)
    kept: list[Victim] = []
    freed = 0
    for victim in victims:
        if freed < needed_mb:
            kept.append(victim)
            freed += victim.frees_mb
    # Small ones picked up on the way may not be needed after all.
    for victim in list(reversed(kept)):
        if freed - victim.frees_mb >= needed_mb:
            kept.remove(victim)
            freed -= victim.frees_mb
    return tuple(kept)
