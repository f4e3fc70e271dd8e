"""vLLM within a budget: weights, activations and graphs are what they are, so the KV cache takes the rest."""

from __future__ import annotations

from typing import Final

from core_gpu.modes.parts import DEFAULT_PORTS, EnginePlan, queue_bound, too_small
from core_gpu.modes.settings import Budget
from core_gpu.planner.estimate import Estimate, estimate
from core_gpu.planner.kv import kv_bytes, kv_named
from core_gpu.planner.overhead import VLLM, Overhead
from core_gpu.planner.table import parsed
from core_gpu.planner.units import MIB, PlanError, mib_up
from streamkit.ops.exposure import is_loopback

__all__ = ["vllm"]

_BARRIER: Final = (
    "start it with headrace arbiter run, behind the start-up barrier: vLLM refuses to start when a neighbour frees"
    " memory while it measures"
)
_DEV_MODE: Final = (
    "VLLM_SERVER_DEV_MODE opens /sleep and more to whoever reaches the port: keep it on loopback, the arbiter its"
    " only caller; /sleep answers 200 even when memory stays, so believe the measurement"
)


def vllm(budget: Budget, memory_mb: int) -> EnginePlan:
    """Return the plan.

    Raises:
        PlanError: the model is not named, not known, or does not fit its budget with one sequence.
    """
    if budget.sleep and not is_loopback(budget.host):
        raise PlanError(
            f"budgets: {budget.name}: sleep: opens vLLM's admin pages to whoever reaches {budget.host}; listen on"
            " 127.0.0.1, or leave it off"
        )
    if not budget.model:
        raise PlanError(f"budgets: {budget.name}: model: vLLM serves one; name it as vllm serve does")
    kv = kv_named(budget.kv, gguf=False, option=f"budgets: {budget.name}: kv")
    cache_mb = budget.budget_mb - _fixed_mb(budget, memory_mb)
    if cache_mb <= 0:
        raise too_small(budget, budget.budget_mb - cache_mb + 1, f"{budget.model} and its graphs alone")
    if (found := parsed(budget.model)) is not None:
        one = mib_up(kv_bytes(found.geometry, kv, budget.ctx))
        if cache_mb < one:
            raise too_small(budget, budget.budget_mb - cache_mb + one, f"{budget.model} with {budget.ctx:,} tokens")
    port = budget.port or DEFAULT_PORTS["vllm"]
    command = [
        "vllm", "serve", budget.model, "--host", budget.host, "--port", str(port),
        "--kv-cache-memory-bytes", str(cache_mb * MIB), "--max-model-len", str(budget.ctx),
        "--max-num-seqs", str(budget.parallel), "--kv-cache-dtype", "fp8" if kv == "fp8" else "auto",
        "--max-num-queued-reqs", str(queue_bound(budget)), "--scheduling-policy", "priority",
    ]  # fmt: skip
    if budget.max_queued_tokens:
        command += ["--max-num-queued-tokens", str(budget.max_queued_tokens)]
    environment: dict[str, str] = {}
    warnings = [
        _BARRIER,
        "--kv-cache-memory-bytes makes it ignore --gpu-memory-utilization, whose default of 0.92 breaks a 90 % cap",
        "the queue bounds need vLLM 0.29 or newer; without them its queue has no end",
    ]
    if budget.sleep:
        command.append("--enable-sleep-mode")
        environment["VLLM_SERVER_DEV_MODE"] = "1"
        warnings.append(_DEV_MODE)
    return EnginePlan(
        name=budget.name, engine="vllm", gpu=budget.gpu, budget_mb=budget.budget_mb,
        host=budget.host, port=port,
        command=tuple(command), environment=environment, warnings=tuple(warnings),
        lease=f"permanent, {budget.budget_mb} MiB, from start to end",
    )  # fmt: skip


def _fixed_mb(budget: Budget, memory_mb: int) -> int:
    """Return what is neither cache nor for anybody else, MiB."""
    planned = _estimate(budget, memory_mb)
    overhead = budget.overhead_mb or VLLM.planned // MIB
    if budget.weights_mb:
        activations = mib_up(planned.need.compute_bytes) if planned else 1_024
        return budget.weights_mb + activations + overhead
    if planned is None:
        raise PlanError(
            f"budgets: {budget.name}: model: the planner does not know {budget.model[:60]!r}; say weights_mb"
        )
    need = planned.need
    return mib_up(need.weights_bytes + need.vision_bytes + need.compute_bytes) + overhead


def _estimate(budget: Budget, memory_mb: int) -> Estimate | None:
    overhead = Overhead(*(3 * (budget.overhead_mb * MIB,))) if budget.overhead_mb else None
    return estimate(
        budget.model,
        ctx=budget.ctx,
        parallel=1,
        kv=budget.kv,
        vllm=True,
        overhead=overhead,
        gpu_bytes=memory_mb * MIB,
    )
