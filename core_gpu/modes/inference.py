"""The inference server within a budget: a limit for ONNX Runtime's arena, and what lies outside it."""

from __future__ import annotations

import json
from typing import Final

from core_gpu.modes.parts import DEFAULT_PORTS, EnginePlan, too_small
from core_gpu.modes.settings import Budget
from core_gpu.planner.units import MIB

__all__ = ["inference"]

_OUTSIDE_MB: Final = 457


def inference(budget: Budget) -> EnginePlan:
    """Return the plan.

    Raises:
        PlanError: nothing would be left inside the arena.
    """
    outside = budget.overhead_mb or _OUTSIDE_MB
    inside = budget.budget_mb - outside
    if inside < 64:
        raise too_small(budget, outside + 64, "ONNX Runtime's context and the least arena")
    port = budget.port or DEFAULT_PORTS["inference"]
    options = {
        "device_id": 0,
        "gpu_mem_limit": inside * MIB,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_use_max_workspace": "0",
    }
    return EnginePlan(
        name=budget.name, engine="inference", gpu=budget.gpu, budget_mb=budget.budget_mb, port=port,
        command=(), environment={},
        files={"/etc/headrace/cuda-provider.json": json.dumps(options, indent=2) + "\n"},
        lease="for each model, taken by the session factory",
        warnings=(
            "gpu_mem_limit bounds the arena of one session: a process with several splits it among them",
            f"cuDNN's workspace and the CUDA context come on top; {outside} MiB of the budget are kept for them",
            "the default kNextPowerOfTwo can take twice what is needed; a misspelt option is silently ignored",
        ),
    )  # fmt: skip
