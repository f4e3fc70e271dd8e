"""Whether a set of budgets holds on its GPUs, in the mode that is asked for. Nothing here changes a GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from core_gpu.modes.settings import Budget, GpuSettings
from core_gpu.planner.units import PlanError
from streamkit.ops.settings import nearest

__all__ = ["MIG", "Profile", "by_gpu", "cap_mb", "checked_layout"]


class Profile(NamedTuple):
    """A MIG profile: its slices of compute (of 7, or 4) and memory (of 8, or 4), and what a process can use."""

    compute: int
    memory: int
    usable_mb: int


def _card(slices: str) -> dict[str, Profile]:
    """Return profiles from `name:compute:memory:GB …`; the driver keeps up to 3/4 GiB of each for itself."""
    found = {}
    for entry in slices.split():
        name, compute, memory = entry.split(":")
        gigabytes = int(name.partition(".")[2].removesuffix("gb"))
        found[name] = Profile(int(compute), int(memory), gigabytes * 1_024 - 768)
    return found


#: From NVIDIA's supported-GPUs page; what a device really has, `nvidia-smi mig -lgip` says. No GeForce card has MIG.
MIG: Final[dict[str, dict[str, Profile]]] = {
    "a100-80gb": _card("1g.10gb:1:1 1g.20gb:1:2 2g.20gb:2:2 3g.40gb:3:4 4g.40gb:4:4 7g.80gb:7:8"),
    "h100-80gb": _card("1g.10gb:1:1 1g.20gb:1:2 2g.20gb:2:2 3g.40gb:3:4 4g.40gb:4:4 7g.80gb:7:8"),
    "h200": _card("1g.18gb:1:1 1g.35gb:1:2 2g.35gb:2:2 3g.71gb:3:4 4g.71gb:4:4 7g.141gb:7:8"),
    "b200": _card("1g.23gb:1:1 1g.45gb:1:2 2g.45gb:2:2 3g.90gb:3:4 4g.90gb:4:4 7g.180gb:7:8"),
    "a30": _card("1g.6gb:1:1 2g.12gb:2:2 4g.24gb:4:4"),
    "rtx-pro-6000": _card("1g.24gb:1:1 2g.48gb:2:2 4g.96gb:4:4"),
}


def cap_mb(gpu: GpuSettings, index: int) -> int:
    """Return what all budgets of a GPU together may take, MiB."""
    return math.floor(gpu.memory_mb[index] * gpu.cap_share + 1e-6)


def by_gpu(budgets: Sequence[Budget]) -> dict[int, list[Budget]]:
    """Return the budgets of each GPU that has any."""
    found: dict[int, list[Budget]] = {}
    for budget in budgets:
        found.setdefault(budget.gpu, []).append(budget)
    return dict(sorted(found.items()))


def checked_layout(gpu: GpuSettings, budgets: Sequence[Budget]) -> None:
    """Refuse a layout that cannot hold.

    Raises:
        PlanError: which budget or GPU, the limit, and what to do.
    """
    if not budgets:
        raise PlanError("budgets: none; add a [[budgets]] table for each engine")
    names: set[str] = set()
    for number, budget in enumerate(budgets):
        if budget.name in names:
            raise PlanError(f'budgets[{number}].name: "{budget.name}" is taken already')
        names.add(budget.name)
        if budget.gpu >= len(gpu.memory_mb):
            raise PlanError(
                f"budgets[{number}].gpu: expected 0 to {len(gpu.memory_mb) - 1} (gpu.memory_mb has"
                f" {len(gpu.memory_mb)}), got {budget.gpu}"
            )
        if gpu.mode == "A" and (budget.mig_profile or budget.mig_uuid):
            raise PlanError(
                f'budgets[{number}]: MIG is a partition of mode B: set gpu.mode = "B", gpu.partition = "mig"'
            )
        if budget.soft_mb > budget.budget_mb:
            raise PlanError(
                f"budgets[{number}].soft_mb: expected at most budget_mb ({budget.budget_mb}), got {budget.soft_mb}"
            )
    for index, here in by_gpu(budgets).items():
        if gpu.mode == "B" and gpu.partition == "mig":
            _mig(gpu, index, here)
        else:
            _sum(gpu, index, here)


def _sum(gpu: GpuSettings, index: int, here: Sequence[Budget]) -> None:
    if gpu.mode == "B" and gpu.partition == "whole" and len(here) > 1:
        raise PlanError(
            f"budgets: GPU {index} is whole and {_named(here)} want it: give each a GPU of its own, or choose mode A"
        )
    total, cap = sum(budget.budget_mb for budget in here), cap_mb(gpu, index)
    if total > cap:
        parts = " + ".join(f"{budget.name} {budget.budget_mb:,}" for budget in here)
        raise PlanError(
            f"budgets: GPU {index}: {parts} = {total:,} MiB, more than {cap:,} ({gpu.cap_share:.0%} of"
            f" {gpu.memory_mb[index]:,}); take away {total - cap:,}"
        )


def _mig(gpu: GpuSettings, index: int, here: Sequence[Budget]) -> None:
    if gpu.model not in MIG:
        raise PlanError(
            f"gpu.model: expected a GPU with MIG ({', '.join(MIG)}), got {gpu.model!r}{nearest(gpu.model, MIG)}"
        )
    profiles = MIG[gpu.model]
    whole = max(profiles.values())
    compute = memory = 0
    uuids: dict[str, str] = {}
    for budget in here:
        profile = profiles.get(budget.mig_profile)
        if profile is None:
            raise PlanError(
                f"budgets: {budget.name}: mig_profile: expected one of {', '.join(profiles)} ({gpu.model}),"
                f" got {budget.mig_profile!r}{nearest(budget.mig_profile, profiles)}"
            )
        if budget.budget_mb > profile.usable_mb:
            raise PlanError(
                f"budgets: {budget.name}: budget_mb: {budget.mig_profile} holds about {profile.usable_mb:,} MiB,"
                f" got {budget.budget_mb:,}"
            )
        if budget.mig_uuid and budget.mig_uuid in uuids:
            raise PlanError(f"budgets: {budget.name}: mig_uuid: {uuids[budget.mig_uuid]} has that device already")
        uuids[budget.mig_uuid] = budget.name
        compute, memory = compute + profile.compute, memory + profile.memory
    if compute > whole.compute or memory > whole.memory:
        raise PlanError(
            f"budgets: GPU {index}: {_named(here)} take {compute} of {whole.compute} compute and {memory} of"
            f" {whole.memory} memory slices of a {gpu.model}; choose smaller profiles"
        )


def _named(budgets: Sequence[Budget]) -> str:
    names = [budget.name for budget in budgets]
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
