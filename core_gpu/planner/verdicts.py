"""A plan in words: does it fit, by how much, and what the card can hold at all."""

from __future__ import annotations

from dataclasses import replace

from core_gpu.planner import table
from core_gpu.planner.geometry import Geometry, parameters
from core_gpu.planner.overhead import overhead_of
from core_gpu.planner.quants import is_gguf
from core_gpu.planner.units import GB, GIB, gb, mib
from core_gpu.planner.vram import VramPlan, Wish, plan

__all__ = ["card", "verdicts"]


def verdicts(found: VramPlan) -> list[str]:
    """Return sentences about `found`; the first says whether it fits."""
    wish, need = found.wish, found.need
    spare = found.budget_bytes - need.total_bytes
    lines = []
    if found.room == "none":
        lines.append(f"does not fit: {gb(-spare)} more than the {gb(found.budget_bytes)} there are")
    elif found.room == "tight":
        lines.append(
            f"fits tightly: {mib(spare)} to spare; a context of {mib(wish.overhead.high)} instead of"
            f" {mib(wish.overhead.planned)} would not, so nothing else may be on the card"
        )
    else:
        lines.append(f"fits, with {gb(spare)} to spare")
    if found.room == "none" and wish.vision_bytes and plan(replace(wish, vision_bytes=0)).fits:
        lines.append("model and vision encoder fit only one at a time: lease them in one exclusive group")
    if found.room == "none" and found.n_gpu_layers > 0:
        lines.append(
            f"{found.n_gpu_layers} of {wish.geometry.layers + 1} layers fit; the others run on the CPU, much slower"
        )
    if wish.geometry.max_ctx and wish.ctx > wish.geometry.max_ctx:
        lines.append(f"{wish.ctx:,} tokens are more than the {wish.geometry.max_ctx:,} the model was trained for")
    if is_gguf(wish.quant) and wish.kv not in ("f16", "f32", "bf16"):
        lines.append(f"a {wish.kv} cache needs flash attention: OLLAMA_FLASH_ATTENTION=1, or llama-server -fa on")
    lines.append(_by_heads(wish, need.kv_bytes))
    return [*lines, *_sixteen_bit(wish)]


def card(size: int) -> str:
    """Return the name of a card's size: whole GiB are sold as GB."""
    return f"{size // GIB} GB" if size % GIB == 0 else mib(size)


def _by_heads(wish: Wish, kv_bytes: int) -> str:
    shape = wish.geometry
    per_token = 2 * shape.kv_heads * shape.head_dim * shape.layers * 2
    if shape.kv_heads == shape.heads:
        return f"KV: multi-head attention, {per_token / 1024:.0f} KiB a token at f16; {gb(kv_bytes)} as planned"
    fold = shape.heads / shape.kv_heads
    return (
        f"KV: {shape.kv_heads} of {shape.heads} heads (GQA), {per_token / 1024:.0f} KiB a token at f16,"
        f" {fold:g} times less than with multi-head attention"
    )


def _sixteen_bit(wish: Wish) -> list[str]:
    """Say where 16-bit weights stop on this card, by the models of the table, at up to 4,096 tokens."""
    fitting: list[Geometry] = []
    failing: list[Geometry] = []
    quant, kv = ("f16", "f16") if is_gguf(wish.quant) else ("fp16", "f16")
    overhead = overhead_of(gguf=is_gguf(wish.quant))
    for entry in table.known():
        trial = replace(
            wish, geometry=entry.geometry, quant=quant, kv=kv, ctx=min(wish.ctx, 4_096), parallel=1, vision_bytes=0,
            weights_bytes=None, overhead=overhead,
        )  # fmt: skip
        (fitting if plan(trial).fits else failing).append(entry.geometry)
    fitting.sort(key=parameters)
    failing.sort(key=parameters)
    if not fitting:
        return [f"FP16 does not fit {card(wish.gpu_bytes)} at all: no model of the table does"]
    if not failing:
        return []
    largest, first = fitting[-1], failing[0]
    where = f"FP16 above {parameters(largest) / GB:.1f} B does not fit {card(wish.gpu_bytes)}"
    return [f"{where}: {largest.name} does, {first.name} ({parameters(first) / GB:.1f} B) does not"]
