"""Usage for people: hours added up by key, tenant or model, and GPU time shared out to those who made it necessary.

A *slot-second* is a second for which an attempt held one of a backend's permits, from the permit to the end of the
engine's body. A *GPU-second* is a second for which a backend held a lease on one GPU; those of a backend and hour are
shared out by slot-seconds, and what nobody had a slot in is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from observe.tally import Hourly, LeaseHour

__all__ = ["BY", "By", "Row", "added_up"]

By = Literal["key", "tenant", "model", "backend"]
BY: Final[tuple[By, ...]] = ("tenant", "key", "model", "backend")
#: In the place of who used it.
_IDLE: Final = "(idle)"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one group used; a member that the grouping adds up over is empty."""

    tenant: str = ""
    key: str = ""
    model: str = ""
    backend: str = ""
    streams: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    slot_s: float = 0.0
    #: None = no lease of these backends is known.
    gpu_s: float | None = None


def added_up(hours: Sequence[Hourly], leased: Sequence[LeaseHour], by: Sequence[By]) -> list[Row]:
    """Return what was used, one row for each group, the largest first.

    Args:
        hours: what was used.
        leased: how long backends held GPUs.
        by: what makes a group.
    """
    gpu_ms = {(one.hour, one.backend): one.gpu_ms for one in leased}
    slots: dict[tuple[int, str], int] = {}
    for one in hours:
        slots[one.hour, one.backend] = slots.get((one.hour, one.backend), 0) + one.slot_ms
    groups: dict[tuple[str, ...], dict[str, float]] = {}

    def add(key: tuple[str, ...], **figures: float | None) -> None:
        group = groups.setdefault(key, {})
        for name, figure in figures.items():
            if figure is not None:
                group[name] = group.get(name, 0) + figure

    known = {backend for _, backend in gpu_ms}
    for one in hours:
        total = slots[one.hour, one.backend]
        share = one.slot_ms / total if total else 0.0
        gpu = gpu_ms.get((one.hour, one.backend), 0) * share / 1000 if one.backend in known else None
        add(
            _group(one, by),
            streams=one.streams,
            prompt_tokens=one.prompt,
            completion_tokens=one.completion,
            slot_s=one.slot_ms / 1000,
            gpu_s=gpu,
        )
    for (hour, backend), ms in gpu_ms.items():
        if not slots.get((hour, backend)):
            idle = Hourly(hour, _IDLE, _IDLE, _IDLE, backend, 0, 0, 0, 0)
            add(_group(idle, by), gpu_s=ms / 1000)
    rows = [_row(key, figures, by) for key, figures in groups.items()]
    order: Callable[[Row], tuple[float, ...]] = lambda row: (  # noqa: E731 - a key, and nothing else
        -(row.prompt_tokens + row.completion_tokens),
        -row.slot_s,
    )
    return sorted(rows, key=order)


def _group(one: Hourly, by: Sequence[By]) -> tuple[str, ...]:
    return tuple(str(getattr(one, name)) for name in by)


def _row(key: tuple[str, ...], figures: dict[str, float], by: Sequence[By]) -> Row:
    return Row(
        **dict(zip(by, key, strict=True)),
        streams=int(figures.get("streams", 0)),
        prompt_tokens=int(figures.get("prompt_tokens", 0)),
        completion_tokens=int(figures.get("completion_tokens", 0)),
        slot_s=round(figures.get("slot_s", 0.0), 3),
        gpu_s=round(figures["gpu_s"], 3) if "gpu_s" in figures else None,
    )
