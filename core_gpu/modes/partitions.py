"""Mode B: what keeps the engines apart, as environment. The layout itself is somebody else's to make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core_gpu.modes.layout import by_gpu
from core_gpu.modes.parts import EnginePlan
from core_gpu.modes.settings import Budget, GpuSettings
from core_gpu.planner.units import MIB

__all__ = ["partitioned"]

_PIPE: Final = "/run/headrace/mps"
_CGROUP: Final = "/sys/fs/cgroup/headrace.slice"
_LOG: Final = "/var/log/headrace/mps"


def partitioned(
    gpu: GpuSettings, budgets: Sequence[Budget], engines: Sequence[EnginePlan]
) -> tuple[list[EnginePlan], tuple[str, ...]]:
    """Return the engines with their partition's environment, and what must have been done before."""
    if gpu.partition == "mig":
        return [_mig(budget, engine) for budget, engine in zip(budgets, engines, strict=True)], _before_mig(budgets)
    if gpu.partition == "mps":
        made = [_mps(budget, engine) for budget, engine in zip(budgets, engines, strict=True)]
        return made, tuple(_daemon(index) for index in by_gpu(budgets))
    if gpu.partition == "mps-v3":
        made = [_mps_v3(budget, engine) for budget, engine in zip(budgets, engines, strict=True)]
        return made, _before_v3(budgets)
    return [_with(engine, {"CUDA_VISIBLE_DEVICES": str(engine.gpu)}) for engine in engines], ()


def _with(engine: EnginePlan, environment: dict[str, str], *warnings: str) -> EnginePlan:
    return msgspec.structs.replace(
        engine, environment={**environment, **engine.environment}, warnings=(*engine.warnings, *warnings)
    )


def _mig(budget: Budget, engine: EnginePlan) -> EnginePlan:
    device = budget.mig_uuid or "MIG-UUID-OF-ITS-DEVICE"
    missing = (
        () if budget.mig_uuid else (f"mig_uuid is not set: nvidia-smi -L prints it for the {budget.mig_profile}",)
    )
    return _with(
        engine, {"CUDA_VISIBLE_DEVICES": device},
        "a process sees one MIG device; figures of use are not available on it", *missing,
    )  # fmt: skip


def _before_mig(budgets: Sequence[Budget]) -> tuple[str, ...]:
    lines = []
    for index, here in by_gpu(budgets).items():
        profiles = ",".join(budget.mig_profile for budget in here)
        lines.append(
            f"GPU {index}, idle, as root: nvidia-smi -i {index} -mig 1; nvidia-smi mig -i {index} -cgi {profiles} -C"
        )
    return (*lines, "nvidia-smi -L prints the UUIDs for mig_uuid; a layout is for as long as the machine is up")


def _mps(budget: Budget, engine: EnginePlan) -> EnginePlan:
    environment = {
        "CUDA_VISIBLE_DEVICES": str(engine.gpu),
        "CUDA_MPS_PIPE_DIRECTORY": f"{_PIPE}-{engine.gpu}",
        # The only device that the process sees is its number 0.
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={budget.budget_mb}M",
    }
    if budget.thread_percent:
        environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(budget.thread_percent)
    return _with(
        engine, environment,
        "the limit counts what the process allocates itself, not its context",
        "a fatal fault of one client ends all clients of the GPU, and all must run as one user",
    )  # fmt: skip


def _daemon(index: int) -> str:
    return (
        f"GPU {index}, as the engines' user: CUDA_VISIBLE_DEVICES={index} CUDA_MPS_PIPE_DIRECTORY={_PIPE}-{index}"
        f" CUDA_MPS_LOG_DIRECTORY={_LOG}-{index} nvidia-cuda-mps-control -d"
    )


def _mps_v3(budget: Budget, engine: EnginePlan) -> EnginePlan:
    soft = budget.soft_mb or budget.budget_mb
    environment = {"CUDA_VISIBLE_DEVICES": str(engine.gpu), "CUDA_MPS_PIPE_DIRECTORY": f"{_PIPE}-{engine.gpu}"}
    return _with(
        engine, environment,
        f"run it in the cgroup headrace.slice/{budget.name}: guaranteed {soft} MiB (dmem.min), at most"
        f" {budget.budget_mb} MiB (dmem.max); between the two it may be evicted or ended when others need memory",
        "beyond the hard limit allocations fail as out of memory; all device memory counts, contexts too",
    )  # fmt: skip


def _before_v3(budgets: Sequence[Budget]) -> tuple[str, ...]:
    lines = ["needs Linux 6.14 with cgroup v2 and its dmem controller, driver r615, CUDA 13.4, and no MIG on the GPU"]
    lines += [_daemon(index) for index in by_gpu(budgets)]
    lines += [
        f"GPU {budget.gpu}, as root, NVML nvmlDeviceSetMemoryLimits_v1: nameSpace={_CGROUP}/{budget.name}"
        f" softLimit={(budget.soft_mb or budget.budget_mb) * MIB} hardLimit={budget.budget_mb * MIB}"
        for budget in budgets
    ]
    return tuple(lines)
