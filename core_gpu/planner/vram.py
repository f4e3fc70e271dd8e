"""One model on one card: what it needs, whether that fits under the cap, and how many layers would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from core_gpu.planner.geometry import Geometry
from core_gpu.planner.kv import kv_bytes
from core_gpu.planner.overhead import Overhead, compute_bytes
from core_gpu.planner.quants import host_bytes, is_gguf, layer_bytes, weights_bytes
from core_gpu.planner.units import LARGEST_BYTES, PlanError

__all__ = ["DEFAULT_CAP", "Need", "Room", "VramPlan", "Wish", "plan"]

#: Share of a card that leases may fill (design §6).
DEFAULT_CAP: Final = 0.9
_MOST_TOKENS: Final = 16_777_216

Room = Literal["roomy", "tight", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to run."""

    geometry: Geometry
    quant: str
    #: Tokens of one sequence.
    ctx: int
    kv: str
    overhead: Overhead
    #: Sequences at a time, each with its own `ctx`.
    parallel: int = 1
    vision_bytes: int = 0
    gpu_bytes: int = 6 * 2**30
    cap: float = DEFAULT_CAP
    #: As a file says it; None = derived from the shape.
    weights_bytes: int | None = None
    #: What others hold on the card: a desktop, another engine.
    others_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes, part by part."""

    #: All of them, as on disk.
    weights_bytes: int
    #: Of these, what stays in host memory.
    host_bytes: int
    kv_bytes: int
    vision_bytes: int
    compute_bytes: int
    context_bytes: int

    @property
    def overhead_bytes(self) -> int:
        """Context and compute buffers of the process."""
        return self.context_bytes + self.compute_bytes

    @property
    def total_bytes(self) -> int:
        """Everything on the card."""
        return self.weights_bytes - self.host_bytes + self.kv_bytes + self.vision_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VramPlan:
    """The answer to a wish."""

    wish: Wish
    need: Need
    budget_bytes: int
    #: roomy: fits whatever the context takes; tight: fits with the planned overhead, not with the highest.
    room: Room
    #: Layers on the GPU as llama.cpp counts them: all of them and the output layer make layers + 1. Without GGUF all
    #: or none.
    n_gpu_layers: int

    @property
    def fits(self) -> bool:
        """Whether it fits with the planned overhead."""
        return self.room != "none"


def plan(wish: Wish) -> VramPlan:
    """Return what `wish` needs and whether it fits.

    Raises:
        PlanError: an option lies outside its limits.
    """
    _check(wish)
    need = _need(wish)
    budget = max(0, int(wish.gpu_bytes * wish.cap) - wish.others_bytes)
    spread = wish.overhead.high - wish.overhead.planned
    room: Room = "none" if need.total_bytes > budget else "tight" if need.total_bytes + spread > budget else "roomy"
    return VramPlan(
        wish=wish, need=need, budget_bytes=budget, room=room, n_gpu_layers=_layers(wish, need, budget, room)
    )


def _check(wish: Wish) -> None:
    for option, value, low, high in (
        ("--ctx", wish.ctx, 1, _MOST_TOKENS),
        ("--parallel", wish.parallel, 1, 4_096),
        ("--vision", wish.vision_bytes, 0, LARGEST_BYTES),
        ("--others", wish.others_bytes, 0, LARGEST_BYTES),
    ):
        if not low <= value <= high:
            raise PlanError(f"{option}: expected {low} to {high:,}, got {value:,}")
    if not 0.05 <= wish.cap <= 1:
        raise PlanError(f"--cap: expected a share from 0.05 to 1, got {wish.cap}")


def _need(wish: Wish) -> Need:
    gguf = is_gguf(wish.quant)
    weights = weights_bytes(wish.geometry, wish.quant) if wish.weights_bytes is None else wish.weights_bytes
    return Need(
        weights_bytes=weights,
        host_bytes=host_bytes(wish.geometry, wish.quant),
        kv_bytes=kv_bytes(wish.geometry, wish.kv, wish.ctx, wish.parallel),
        vision_bytes=wish.vision_bytes,
        compute_bytes=compute_bytes(wish.geometry, wish.gpu_bytes, gguf=gguf),
        context_bytes=wish.overhead.planned,
    )


def _layers(wish: Wish, need: Need, budget: int, room: Room) -> int:
    """Return how many layers fit: with fewer than all, embeddings and output stay in host memory.

    llama.cpp puts the last layers on the GPU and their part of the cache with them.
    """
    shape = wish.geometry
    if room != "none":
        return shape.layers + 1
    if not is_gguf(wish.quant):
        return 0
    free = budget - need.vision_bytes - need.overhead_bytes
    sizes = layer_bytes(shape, wish.quant)
    scale = need.weights_bytes / sum(sizes)
    for layers in range(shape.layers, 0, -1):
        first = shape.layers - layers
        inside = scale * sum(sizes[first:-1])
        cache = need.kv_bytes * layers / shape.layers
        if inside + cache <= free:
            return layers
    return 0
