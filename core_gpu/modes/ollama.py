"""Ollama within a budget: it has no such setting, so its models, contexts and the room it must leave are set."""

from __future__ import annotations

from core_gpu.modes.parts import DEFAULT_PORTS, EnginePlan, queue_bound, too_small
from core_gpu.modes.settings import Budget
from core_gpu.planner.estimate import estimate
from core_gpu.planner.kv import kv_named
from core_gpu.planner.overhead import Overhead
from core_gpu.planner.units import MIB

__all__ = ["ollama"]


def ollama(budget: Budget, memory_mb: int, spare_mb: int) -> EnginePlan:
    """Return the plan.

    Args:
        budget: its part.
        memory_mb: the GPU's memory.
        spare_mb: what no budget has, MiB: Ollama must leave that free when all others hold theirs.

    Raises:
        PlanError: the model that it names does not fit.
    """
    kv = kv_named(budget.kv, gguf=True, option=f"budgets: {budget.name}: kv")
    if budget.model:
        overhead = Overhead(*(3 * (budget.overhead_mb * MIB,))) if budget.overhead_mb else None
        found = estimate(
            budget.model,
            ctx=budget.ctx,
            parallel=budget.parallel,
            kv=kv,
            overhead=overhead,
            gpu_bytes=memory_mb * MIB,
        )
        if found is not None and found.reserve_mb * budget.loaded_models > budget.budget_mb:
            many = f"{budget.loaded_models} x " if budget.loaded_models > 1 else ""
            raise too_small(budget, found.reserve_mb * budget.loaded_models, f"{many}{budget.model}")
    port = budget.port or DEFAULT_PORTS["ollama"]
    environment = {
        "OLLAMA_HOST": f"{budget.host}:{port}",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_KV_CACHE_TYPE": kv,
        "OLLAMA_NUM_PARALLEL": str(budget.parallel),
        "OLLAMA_MAX_LOADED_MODELS": str(budget.loaded_models),
        "OLLAMA_CONTEXT_LENGTH": str(budget.ctx),
        "OLLAMA_MAX_QUEUE": str(queue_bound(budget)),
        "LLAMA_ARG_FIT_TARGET": str(spare_mb),
    }
    return EnginePlan(
        name=budget.name, engine="ollama", gpu=budget.gpu, budget_mb=budget.budget_mb,
        host=budget.host, port=port,
        command=("ollama", "serve"), environment=environment,
        lease="for each model, taken before it is loaded and given back when its memory is",
        warnings=(
            "OLLAMA_GPU_OVERHEAD limits nothing here: since 0.33 it is logged and not used for placing models",
            f"LLAMA_ARG_FIT_TARGET leaves {spare_mb} MiB free, a bound only while others hold theirs: start it last",
            "OLLAMA_MAX_QUEUE bounds loads only; for a loaded model the gateway's max_inflight is the limit",
            "an unset OLLAMA_CONTEXT_LENGTH would be 32,768 tokens from 23 GiB on and 262,144 from 47 GiB on",
        ),
    )  # fmt: skip
