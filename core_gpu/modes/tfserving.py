"""TensorFlow Serving within a budget: a fraction on the command line, and a lease for as long as it runs."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Final

from core_gpu.modes.parts import DEFAULT_PORTS, EnginePlan, too_small
from core_gpu.modes.settings import Budget

__all__ = ["tfserving"]

#: CUDA context, cuDNN and cuBLAS lie outside the fraction; what Ollama reserves stands in for a measurement.
_OUTSIDE_MB: Final = 457
_THREADS: Final = 4
_TRAP: Final = (
    "the fraction counts on the command line only: one in --tensorflow_session_config_file is overwritten by the"
    " default 0, which is all of the GPU"
)
_NO_MODEL: Final = (
    "it is told no model and ends at once: set model_path, or add --model_config_file to its command yourself"
)


def tfserving(budget: Budget, memory_mb: int) -> EnginePlan:
    """Return the plan.

    Raises:
        PlanError: nothing would be left inside the fraction.
    """
    outside = budget.overhead_mb or _OUTSIDE_MB
    inside = budget.budget_mb - outside
    if inside < 128:
        raise too_small(budget, outside + 128, "TensorFlow's context and the least arena")
    # Rounded down: the fraction is of all the card's memory.
    fraction = math.floor(inside / memory_mb * 10_000) / 10_000
    port = budget.port or DEFAULT_PORTS["tfserving"]
    path = "/etc/headrace/batching.txt"
    command = (
        "tensorflow_model_server", f"--port={port}", f"--rest_api_port={port + 1}",
        f"--per_process_gpu_memory_fraction={fraction:.4f}", "--enable_batching",
        f"--batching_parameters_file={path}", *_served(budget),
    )  # fmt: skip
    batching = (
        f"max_batch_size {{ value: {max(1, budget.parallel)} }}\n"
        "batch_timeout_micros { value: 2000 }\n"
        f"num_batch_threads {{ value: {_THREADS} }}\n"
        f"max_enqueued_batches {{ value: {budget.max_queued or _THREADS} }}\n"
    )
    return EnginePlan(
        name=budget.name, engine="tfserving", gpu=budget.gpu, budget_mb=budget.budget_mb, host=budget.host, port=port,
        command=command,
        environment={"TF_FORCE_GPU_ALLOW_GROWTH": "true"}, files={path: batching},
        lease=f"permanent, {budget.budget_mb} MiB, from start to end: it gives memory back only when it exits",
        warnings=(
            _TRAP,
            f"context, cuDNN and cuBLAS lie outside the fraction; {outside} MiB of the budget are kept for them",
            "a new model version is loaded before the old one goes: it takes twice the model's memory for a while",
            "without batching its queue has no bound",
            *(() if budget.model_path else (_NO_MODEL,)),
        ),
    )  # fmt: skip


def _served(budget: Budget) -> tuple[str, ...]:
    if not budget.model_path:
        return ()
    name = budget.model or PurePosixPath(budget.model_path).name
    return (f"--model_name={name}", f"--model_base_path={budget.model_path}")
