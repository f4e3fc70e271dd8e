"""Figures of missions 1 and 3 that the planner can check."""

from __future__ import annotations

from collections.abc import Iterator

from core_gpu.planner.figures import Figure, figure
from core_gpu.planner.fleet import Fleet
from core_gpu.planner.geometry import parameters
from core_gpu.planner.kv import KV, kv_bytes
from core_gpu.planner.overhead import LLAMA_CPP
from core_gpu.planner.quants import weights_bytes
from core_gpu.planner.table import known, resolve
from core_gpu.planner.units import GB, GIB
from core_gpu.planner.vram import Wish, plan

__all__ = ["missions"]


def missions(fleet: Fleet) -> Iterator[Figure]:
    """Yield the figures; all but the first are constants of the models."""
    yield figure("leases", "cap of 24,000 MB", f"24000 x {fleet.cap:g}", 24_000 * fleet.cap, "MB", 21_600)
    wait = sum(min(0.25 * 2**attempt, 2.0) for attempt in range(6))
    yield figure(
        "leases",
        "client's patience",
        "0.25 + 0.5 + 1 + 2 + 2 + 2",
        wait,
        "s",
        note="a quarter of the ttl of 30 s: a client gives up long before a dead holder's lease expires",
    )
    qwen, llama, old = (resolve(name).geometry for name in ("qwen2.5-7b", "llama-3.1-8b", "llama-2-7b"))
    yield figure("6 GB", "Qwen2.5 7B Q5_K_M", "tensor by tensor", weights_bytes(qwen, "q5_k_m") / GB, "GB", 5.53)
    yield figure("6 GB", "Llama 3.1 8B Q4_K_M", "tensor by tensor", weights_bytes(llama, "q4_k_m") / GB, "GB", 4.9)
    yield figure(
        "6 GB",
        "10,000 tokens, MHA 7B",
        "2 x 32 x 32 x 128 x 2 B x 10000",
        kv_bytes(old, "f16", 10_000) / GB,
        "GB",
        5,
        verdict="follows",
        note='"over 5 GB" is true for multi-head attention (Llama 2 7B) only',
    )
    yield figure(
        "6 GB",
        "10,000 tokens, Llama 3.1 8B",
        "2 x 32 x 8 x 128 x 2 B x 10000",
        kv_bytes(llama, "f16", 10_000) / GB,
        "GB",
        5,
        note="grouped queries: a quarter",
    )
    yield figure(
        "6 GB",
        "10,000 tokens, Qwen2.5 7B",
        "2 x 28 x 4 x 128 x 2 B x 10000",
        kv_bytes(qwen, "f16", 10_000) / GB,
        "GB",
        5,
        note="a ninth",
    )
    yield figure(
        "6 GB",
        "q8_0 cache saves",
        "2 / (34/32)",
        KV["f16"] / KV["q8_0"],
        "times",
        2,
        verdict="rounded",
        note="blocks have a scale",
    )
    yield figure(
        "6 GB",
        "q4_0 cache saves",
        "2 / (18/32)",
        KV["f16"] / KV["q4_0"],
        "times",
        4,
        note="4-bit blocks have a scale, too",
    )
    largest = max(parameters(entry.geometry) for entry in known() if _fits_at_16_bits(entry.geometry.name))
    yield figure(
        "6 GB",
        "largest FP16 model",
        "models.toml, 4,096 tokens",
        largest / 1e9,
        "B",
        1.5,
        note="Qwen3-1.7B still fits, 2.6 B (Gemma 2) does not: right in spirit",
    )
    yield figure(
        "6 GB",
        "least of the budget table",
        "4.5 + 1 + 0.8 + 0.5",
        6.8,
        "GB",
        note="more than 6: one large model at a time follows",
    )


def _fits_at_16_bits(name: str) -> bool:
    wish = Wish(
        geometry=resolve(name).geometry, quant="f16", ctx=4_096, kv="f16", overhead=LLAMA_CPP, gpu_bytes=6 * GIB
    )
    return plan(wish).fits
