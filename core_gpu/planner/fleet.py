"""The parameters of the user's capacity plan (mission 4), each with the value that they gave it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Final

from core_gpu.planner.units import PlanError

__all__ = ["DEFAULT", "Fleet", "checked_fleet", "meaning"]


def _is(default: float, meaning: str) -> float:
    """Return a field with its meaning, for `--help`."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything that the tables are computed from. Money in dollars, sizes in decimal units."""

    gpus: float = _is(8, "GPUs of one inference server")
    gpu_gb: float = _is(96, "memory of each, GB")
    model_mb: float = _is(500, "memory of one avatar model, MB")
    max_models: float = _is(1_200, "models configured")
    max_memory_gb: float = _is(720, "memory configured for models, GB")
    cap: float = _is(0.9, "share of GPU memory that may be filled")
    workers_per_gpu: float = _is(4, "inference workers on each GPU")
    worker_fps: float = _is(150, "frames per second of one worker")
    box_fps: float = _is(600, "frames per second of one monolithic box")
    fps: float = _is(25, "frames per second of one stream")
    duty: float = _is(0.27, "share of the time that a user's avatar speaks")
    users: float = _is(710, "users planned for")
    overload: float = _is(0.001, "acceptable share of the time with more speakers than streams")
    server_cost: float = _is(40_000, "one inference server, $")
    box_cost: float = _is(15_000, "one monolithic box, $")
    frame_px: float = _is(320, "edge of the mouth region, pixels")
    value_bytes: float = _is(4, "bytes of one value on the wire (float32 = 4)")
    visual_planes: float = _is(6, "planes of the visual input")
    audio_values: float = _is(8_192, "audio features of a frame (32 x 16 x 16)")
    png_kb: float = _is(300, "one PNG frame, KB")
    h264_kbps: float = _is(800, "one H.264 stream, kbit/s")
    composite_ms: float = _is(17.5, "compositing a frame (15 to 20 ms)")
    encode_ms: float = _is(7.5, "encoding a PNG (5 to 10 ms)")
    threads: float = _is(64, "threads of a compositing box")
    compositor_cost: float = _is(7_000, "one compositing box, $")
    compositor_ram_gb: float = _is(256, "memory of a compositing box, GB")
    compositor_nic_gbps: float = _is(10, "network of a compositing box, Gbit/s")
    background_mb: float = _is(175, "backgrounds of one model, MB")
    link_gbps: float = _is(100, "link of the inference server, Gbit/s (InfiniBand 100 to 200)")


DEFAULT: Final = Fleet()
_MOST: Final = 1e12


def meaning(name: str) -> str:
    """Return what a parameter stands for."""
    return next(str(item.metadata["meaning"]) for item in fields(Fleet) if item.name == name)


def checked_fleet(fleet: Fleet) -> Fleet:
    """Return `fleet` if its numbers can be computed with.

    Raises:
        PlanError: a parameter lies outside its limits.
    """
    for item in fields(fleet):
        value = getattr(fleet, item.name)
        option = f"--{item.name.replace('_', '-')}"
        if not (math.isfinite(value) and 0 < value <= _MOST):
            raise PlanError(f"{option}: expected more than 0 and at most {_MOST:.0e}, got {value:g}")
        if item.name in ("duty", "cap", "overload") and value > 1:
            raise PlanError(f"{option}: expected a share of at most 1, got {value:g}")
    return fleet
