"""What a plan says of one engine; the shape that the printed plan and its schema share."""

from __future__ import annotations

from typing import Final

import msgspec

from core_gpu.modes.settings import Budget
from core_gpu.planner.units import PlanError

__all__ = ["DEFAULT_PORTS", "EnginePlan", "queue_bound", "too_small"]

DEFAULT_PORTS: Final = {"vllm": 8_000, "ollama": 11_434, "tfserving": 8_500, "inference": 50_052}


class EnginePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one engine so that it keeps to its budget."""

    name: str
    engine: str
    gpu: int
    budget_mb: int
    host: str = "127.0.0.1"
    port: int
    command: tuple[str, ...]
    environment: dict[str, str]
    #: Files that it needs, by path, with their content.
    files: dict[str, str] = {}
    #: Its lease: held from start to end, or taken for each model.
    lease: str
    #: What to know before it is started.
    warnings: tuple[str, ...] = ()


def queue_bound(budget: Budget) -> int:
    """Return how many requests may wait or run in the engine."""
    return budget.max_queued or 2 * budget.parallel + 8


def too_small(budget: Budget, needed_mb: int, what: str) -> PlanError:
    """Return the refusal of a budget that cannot hold what it is for."""
    return PlanError(
        f"budgets: {budget.name}: budget_mb: {what} need {needed_mb:,} MiB, got {budget.budget_mb:,};"
        " headrace plan vram shows what would fit"
    )
