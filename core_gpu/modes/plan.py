"""The whole plan: every engine's flags and environment in the mode that is asked for, and the order to start them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core_gpu.modes.inference import inference
from core_gpu.modes.layout import by_gpu, cap_mb, checked_layout
from core_gpu.modes.ollama import ollama
from core_gpu.modes.partitions import partitioned
from core_gpu.modes.parts import EnginePlan
from core_gpu.modes.settings import Budget, GpuSettings
from core_gpu.modes.tfserving import tfserving
from core_gpu.modes.vllm import vllm
from core_gpu.planner.units import PlanError

__all__ = ["UNTESTED", "GpuPlan", "ModesPlan", "plan_modes", "refusal"]

UNTESTED: Final = (
    "untested here: no GPU of this kind was at hand; flags and variables are read from the engines' sources"
)
#: Engines that measure or take everything at their start go first; those that look at what is free go last.
_ORDER: Final = ("vllm", "tfserving", "inference", "ollama")


class GpuPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU's arithmetic, MiB."""

    index: int
    memory_mb: int
    cap_mb: int
    budgeted_mb: int
    spare_mb: int


class ModesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `headrace plan modes` prints; `schemas/plan.schema.json` describes it."""

    version: int = 1
    mode: str
    #: whole, mig, mps, mps-v3; empty in mode A.
    partition: str
    note: str = UNTESTED
    gpus: tuple[GpuPlan, ...]
    engines: tuple[EnginePlan, ...]
    #: Names, in the order to start them.
    start_order: tuple[str, ...]
    #: What somebody with the right to do so must have done before, in this order.
    before: tuple[str, ...] = ()


def plan_modes(gpu: GpuSettings, budgets: Sequence[Budget]) -> ModesPlan:
    """Return the plan of a layout that holds.

    Raises:
        PlanError: it does not hold; the message names the budget and the limit.
    """
    checked_layout(gpu, budgets)
    gpus = []
    for index, here in by_gpu(budgets).items():
        total, cap = sum(budget.budget_mb for budget in here), cap_mb(gpu, index)
        memory = gpu.memory_mb[index]
        gpus.append(GpuPlan(index=index, memory_mb=memory, cap_mb=cap, budgeted_mb=total, spare_mb=memory - total))
    spare = {each.index: each.spare_mb for each in gpus}
    engines = [_engine(budget, gpu.memory_mb[budget.gpu], spare[budget.gpu]) for budget in budgets]
    before: tuple[str, ...] = ()
    if gpu.mode == "B":
        engines, before = partitioned(gpu, budgets, engines)
    else:
        engines = [_on_gpu(engine) for engine in engines]
    ordered = sorted(engines, key=lambda engine: (_ORDER.index(engine.engine), engine.gpu))
    return ModesPlan(
        mode=gpu.mode,
        partition=gpu.partition if gpu.mode == "B" else "",
        gpus=tuple(gpus),
        engines=tuple(engines),
        start_order=tuple(engine.name for engine in ordered),
        before=before,
    )


def refusal(gpu: GpuSettings, budgets: Sequence[Budget]) -> str | None:
    """Return why the layout does not hold, or None."""
    try:
        plan_modes(gpu, budgets)
    except PlanError as error:
        return str(error)
    return None


def _engine(budget: Budget, memory_mb: int, spare_mb: int) -> EnginePlan:
    if budget.engine == "vllm":
        return vllm(budget, memory_mb)
    if budget.engine == "ollama":
        return ollama(budget, memory_mb, spare_mb)
    if budget.engine == "tfserving":
        return tfserving(budget, memory_mb)
    return inference(budget)


def _on_gpu(engine: EnginePlan) -> EnginePlan:
    return msgspec.structs.replace(
        engine, environment={"CUDA_VISIBLE_DEVICES": str(engine.gpu), **engine.environment}
    )
