"""Bytes of weights: llama.cpp's block types and mixtures tensor by tensor, and the formats that vLLM loads."""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

from core_gpu.planner.geometry import Geometry, Tensor, tensors
from core_gpu.planner.units import PlanError
from streamkit.ops.settings import nearest

__all__ = [
    "GGUF",
    "HF",
    "LADDER",
    "TYPES",
    "Block",
    "gguf_type",
    "host_bytes",
    "is_gguf",
    "layer_bytes",
    "named",
    "weights_bytes",
]


class Block(NamedTuple):
    """A ggml type: so many elements in so many bytes (`ggml-common.h`)."""

    elements: int
    size_bytes: int


TYPES: Final[dict[str, Block]] = {
    "F32": Block(1, 4),
    "F16": Block(1, 2),
    "BF16": Block(1, 2),
    "Q4_0": Block(32, 18),
    "Q4_1": Block(32, 20),
    "Q5_0": Block(32, 22),
    "Q5_1": Block(32, 24),
    "Q8_0": Block(32, 34),
    "Q2_K": Block(256, 84),
    "Q3_K": Block(256, 110),
    "Q4_K": Block(256, 144),
    "Q5_K": Block(256, 176),
    "Q6_K": Block(256, 210),
}
#: Where a row is no multiple of 256, llama-quantize falls back to a type with blocks of 32.
_FALLBACK: Final = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}

#: A mixture and the type that most of its matrices have.
GGUF: Final[dict[str, str]] = {
    "f32": "F32",
    "f16": "F16",
    "bf16-gguf": "BF16",
    "q8_0": "Q8_0",
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K",
    "q5_k_s": "Q5_K",
    "q5_0": "Q5_0",
    "q4_k_m": "Q4_K",
    "q4_k_s": "Q4_K",
    "q4_0": "Q4_0",
    "q3_k_l": "Q3_K",
    "q3_k_m": "Q3_K",
    "q3_k_s": "Q3_K",
    "q2_k": "Q2_K",
}

#: vLLM: bits of a linear layer's weight; embeddings, output, norms and routers stay at 16.
#: AWQ and GPTQ: 4 bits, and for each group of 128 a 16-bit scale and a 4-bit zero point.
HF: Final[dict[str, float]] = {
    "fp32": 32.0,
    "fp16": 16.0,
    "bf16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "awq": 4 + 20 / 128,
    "gptq": 4 + 20 / 128,
}

#: From large to small, for "the nearest that fits".
LADDER: Final[dict[bool, tuple[str, ...]]] = {
    True: ("f16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k"),
    False: ("bf16", "fp8", "awq"),
}


def named(text: str, option: str = "--quant") -> str:
    """Return the name of a quantisation as this module knows it.

    Raises:
        PlanError: there is none of that name.
    """
    name = text.strip().lower().replace("-", "_").removeprefix("gguf_")
    name = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "awq_int4": "awq", "q4_k": "q4_k_m"}.get(
        name, name
    )
    if name not in GGUF and name not in HF:
        known = ", ".join((*GGUF, *HF))
        raise PlanError(f"{option}: no quantisation {text[:40]!r}{nearest(name, (*GGUF, *HF))}; there is: {known}")
    return name


def is_gguf(quant: str) -> bool:
    """Say whether llama.cpp and Ollama load it; the others are vLLM's."""
    return quant in GGUF


def weights_bytes(geometry: Geometry, quant: str) -> int:
    """Return the bytes of the weights in this format, a name of `GGUF` or `HF`."""
    return sum(layer_bytes(geometry, quant))


@functools.lru_cache(maxsize=1_024)
def layer_bytes(geometry: Geometry, quant: str) -> tuple[int, ...]:
    """Return the bytes of each layer's weights, and last those of what belongs to none."""
    sizes = [0.0] * (geometry.layers + 1)
    for tensor in tensors(geometry):
        if quant in HF:
            sizes[tensor.layer] += _hf_bytes(tensor, HF[quant])
        else:
            block = TYPES[gguf_type(geometry, quant, tensor)]
            sizes[tensor.layer] += -(-tensor.elements // block.elements) * block.size_bytes
    return tuple(map(round, sizes))


def host_bytes(geometry: Geometry, quant: str) -> int:
    """Return what llama.cpp leaves in host memory with every layer on the GPU: a token embedding that is not tied.

    Its log calls it the CPU buffer (ollama#9091: 417.66 MiB for Qwen2.5-14B at q4_k_m).
    """
    if geometry.tied or quant not in GGUF:
        return 0
    tensor = next(tensors(geometry))
    block = TYPES[gguf_type(geometry, quant, tensor)]
    return tensor.elements // block.elements * block.size_bytes


def gguf_type(geometry: Geometry, quant: str, tensor: Tensor) -> str:
    """Return the ggml type that `llama-quantize` gives a tensor, without an importance matrix.

    The rules are those of `llama_tensor_get_type` in llama.cpp's src/llama-quant.cpp.
    """
    base = GGUF[quant]
    if tensor.kind in ("vector", "router"):
        return "F32"
    if base in ("F32", "F16", "BF16"):
        return base
    chosen = _mixed(geometry, quant, tensor) or base
    return _FALLBACK.get(chosen, "F16") if tensor.row % TYPES[chosen].elements else chosen


def _mixed(geometry: Geometry, quant: str, tensor: Tensor) -> str | None:
    """Return the type where the mixture departs from its base."""
    layer, layers = tensor.layer, geometry.layers
    many = geometry.experts == 8
    match tensor.kind:
        case "output":
            return None if quant == "q8_0" else "Q6_K"
        case "token_embd":
            return "Q6_K" if geometry.tied and quant != "q8_0" else None
        case "attn_v":
            return "Q8_0" if many else _attn_v(geometry, quant, layer)
        case "attn_k":
            return "Q8_0" if many else None
        case "attn_output":
            if many:
                return "Q5_K" if quant in ("q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m") else None
            return {"q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(quant)
        case "ffn_down":
            if quant in ("q4_k_m", "q5_k_m"):
                return "Q6_K" if _more_bits(layer, layers) else None
            if quant == "q3_k_m":
                return "Q5_K" if layer < layers // 16 else "Q4_K"
            if quant == "q4_k_s":
                return "Q5_K" if layer < layers // 8 else None
            return {"q2_k": "Q3_K", "q3_k_l": "Q5_K"}.get(quant)
    return None


def _attn_v(geometry: Geometry, quant: str, layer: int) -> str | None:
    grouped = geometry.heads // geometry.kv_heads >= 4
    chosen: str | None = None
    if quant == "q2_k":
        chosen = "Q4_K" if grouped else "Q3_K"
    elif quant == "q3_k_m":
        chosen = "Q5_K" if layer < 2 else "Q4_K"
    elif quant == "q3_k_l":
        chosen = "Q5_K"
    elif quant in ("q4_k_m", "q5_k_m"):
        chosen = "Q6_K" if _more_bits(layer, geometry.layers) else None
    elif quant == "q4_k_s":
        chosen = "Q5_K" if layer < 4 else None
    # llama.cpp calls 80 layers with grouped queries "70B" and spends more on its small V matrices.
    seventy = geometry.layers == 80 and geometry.kv_heads != geometry.heads
    return "Q5_K" if seventy and (chosen or GGUF[quant]) in ("Q3_K", "Q4_K") else chosen


def _more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _hf_bytes(tensor: Tensor, bits: float) -> float:
    linear = tensor.kind not in ("token_embd", "output", "vector", "router")
    return tensor.elements * (bits if linear or bits > 16 else 16.0) / 8
