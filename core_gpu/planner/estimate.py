"""What to reserve for a model of which only the name is known: the door for the arbiter and its adapters."""

from __future__ import annotations

from dataclasses import dataclass

from core_gpu.planner.kv import kv_named
from core_gpu.planner.overhead import Overhead, overhead_of
from core_gpu.planner.quants import is_gguf
from core_gpu.planner.table import parsed
from core_gpu.planner.units import mib_up
from core_gpu.planner.vram import Need, Wish, plan

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory that a model is expected to take, in whole MiB."""

    #: The model's name in the planner's table.
    model: str
    quant: str
    ctx: int
    #: With the planned context; a larger one is what the arbiter's margin is for.
    reserve_mb: int
    #: With the largest context known.
    highest_mb: int
    need: Need


def estimate(
    name: str,
    *,
    ctx: int = 4_096,
    parallel: int = 1,
    kv: str = "f16",
    quant: str | None = None,
    vllm: bool = False,
    overhead: Overhead | None = None,
    gpu_bytes: int = 24 * 2**30,
) -> Estimate | None:
    """Return what the model called `name` takes, or None if nothing is known under that name.

    Args:
        name: as an engine knows it: `llama3.1:8b-instruct-q4_K_M`, `Qwen/Qwen2.5-7B-Instruct-AWQ`.
        ctx: tokens of one sequence.
        parallel: sequences at a time.
        kv: cache type.
        quant: overrides what the name says; where neither says anything Ollama has q4_k_m and vLLM bf16.
        vllm: whether vLLM runs it.
        overhead: as measured on this machine.
        gpu_bytes: memory of the card; vLLM's batch depends on it.

    Raises:
        PlanError: an argument lies outside its limits.
    """
    found = parsed(name)
    if found is None:
        return None
    weights = quant or found.quant or ("bf16" if vllm else "q4_k_m")
    gguf = is_gguf(weights)
    extra = overhead or overhead_of(gguf=gguf)
    planned = plan(
        Wish(
            geometry=found.geometry, quant=weights, ctx=ctx, kv=kv_named(kv, gguf=gguf), parallel=parallel,
            overhead=extra, vision_bytes=found.geometry.vision_bytes, gpu_bytes=gpu_bytes,
        )
    )  # fmt: skip
    total = planned.need.total_bytes
    return Estimate(
        model=found.geometry.name,
        quant=weights,
        ctx=ctx,
        reserve_mb=mib_up(total),
        highest_mb=mib_up(total + extra.high - extra.planned),
        need=planned.need,
    )
