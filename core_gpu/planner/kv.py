"""Bytes of a KV cache: 2 x layers x kv_heads x head_dim x bytes per element x tokens, windows capped."""

from __future__ import annotations

from typing import Final

from core_gpu.planner.geometry import Geometry
from core_gpu.planner.units import PlanError
from streamkit.ops.settings import nearest

__all__ = ["KV", "LADDER", "kv_bytes", "kv_named"]

#: Bytes per element. llama.cpp quantises in blocks of 32; vLLM stores fp8.
KV: Final[dict[str, float]] = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "fp8": 1.0,
}
#: From large to small, by whether llama.cpp runs it.
LADDER: Final[dict[bool, tuple[str, ...]]] = {True: ("f16", "q8_0", "q4_0"), False: ("bf16", "fp8")}
_ONLY_LLAMA: Final = frozenset({"f32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"})


def kv_named(text: str, *, gguf: bool, option: str = "--kv") -> str:
    """Return a cache type by the name that its engine has for it.

    Raises:
        PlanError: there is none of that name, or the engine has not got it.
    """
    name = text.strip().lower()
    name = {"fp16": "f16", "float16": "f16", "bfloat16": "bf16", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}.get(name, name)
    if name not in KV:
        raise PlanError(f"{option}: no cache type {text[:40]!r}{nearest(name, KV)}; there is: {', '.join(KV)}")
    if gguf and name == "fp8":
        raise PlanError(
            f"{option}: fp8 is a cache type of vLLM; llama.cpp and Ollama have q8_0, which takes 6 % more"
        )
    if not gguf and name in _ONLY_LLAMA:
        raise PlanError(f"{option}: {name} is a cache type of llama.cpp; vLLM has f16, bf16 and fp8")
    return name


def kv_bytes(geometry: Geometry, kv: str, ctx: int, parallel: int = 1) -> int:
    """Return the bytes of the cache for `parallel` sequences of `ctx` tokens each."""
    full = (geometry.layers - geometry.window_layers) * ctx
    windowed = geometry.window_layers * min(ctx, geometry.window or ctx)
    return round(2 * geometry.kv_heads * geometry.head_dim * KV[kv] * (full + windowed) * parallel)
