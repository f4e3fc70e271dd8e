"""Switching modes: what must be drained and given back first, and whether an arbiter's state says that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core_gpu.modes.plan import ModesPlan
from core_gpu.planner.units import PlanError

__all__ = ["RESIDUE_MB", "Check", "checks", "steps"]

#: What may still be measured on a GPU that nobody leases: a display, a driver's own.
RESIDUE_MB: Final = 512


class Check(NamedTuple):
    """One precondition."""

    holds: bool
    what: str


def steps(plan: ModesPlan) -> list[str]:
    """Return the procedure towards this plan, in order."""
    indices = ", ".join(str(gpu.index) for gpu in plan.gpus)
    lines = [
        "headrace check FILE and headrace plan modes --config FILE accept the new layout",
        "control sends no new work here: weight 0 for this region, or other backends take the models",
        "streams under way end: headrace_attempts_inflight at the edges comes to 0 for these backends",
        "the arbiter drains: GetState says draining, waiting 0",
        f"engines stop, in this order: {', '.join(reversed(plan.start_order))}; their leases end",
        f"measured memory is back: GetState says reserved_mb 0 and unleased_mb at most {RESIDUE_MB} on GPU {indices}",
    ]
    if plan.partition == "mig":
        lines.append("the MIG layout is made by an administrator: nvidia-smi mig …, GPU idle; Headrace never does it")
    elif plan.partition in ("mps", "mps-v3"):
        lines.append("the MPS daemons run, one for each GPU; Headrace does not start them")
    lines += [
        "the arbiter starts with the new configuration: GetState shows the GPUs (or MIG devices) that are expected",
        "engines start in the plan's order, vLLM behind the start-up barrier; each takes its lease first",
        "control gives the region its weight back",
    ]
    return lines


def checks(state: Mapping[str, Any], plan: ModesPlan) -> list[Check]:
    """Return what an arbiter's `GetState` answer, as JSON, says about the preconditions.

    Raises:
        PlanError: it is not such an answer.
    """
    gpus = state.get("gpus")
    if not isinstance(gpus, list) or not all(isinstance(each, dict) for each in gpus):
        raise PlanError("--state: expected the JSON of GetState, with a list of gpus")
    found = [
        Check(bool(state.get("draining")), "the arbiter is draining"),
        Check(_number(state, "waiting") == 0, f"nobody waits for a lease ({_number(state, 'waiting')})"),
        Check(_number(state, "leases") == 0, f"no lease is held ({_number(state, 'leases')})"),
    ]
    seen = {_number(each, "gpu_index"): each for each in gpus}
    for index in (gpu.index for gpu in plan.gpus):
        here = seen.get(index)
        if here is None:
            found.append(Check(False, f"GPU {index} is known to the arbiter"))
            continue
        startup = _get(here, "startup_client") or ""
        unleased = _number(here, "unleased_mb")
        found += [
            Check(not _get(here, "stale"), f"GPU {index}: its measurement is fresh"),
            Check(not startup, f"GPU {index}: no engine is starting{f' ({startup})' if startup else ''}"),
            Check(
                _number(here, "reserved_mb") == 0,
                f"GPU {index}: nothing is reserved ({_number(here, 'reserved_mb')})",
            ),
            Check(unleased <= RESIDUE_MB, f"GPU {index}: at most {RESIDUE_MB} MiB belong to no lease ({unleased})"),
        ]
    return found


def _get(table: Mapping[str, Any], name: str) -> Any:
    """Read a field under its own name or under the one of protobuf's JSON: `gpu_index` or `gpuIndex`."""
    first, *rest = name.split("_")
    return table.get(name, table.get(first + "".join(map(str.title, rest))))


def _number(table: Mapping[str, Any], name: str) -> int:
    """Read a count; protobuf's JSON leaves zeros out and writes 64-bit numbers as text."""
    value = _get(table, name)
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        raise PlanError(f"--state: {name}: expected a number, got {str(value)[:40]!r}") from None
