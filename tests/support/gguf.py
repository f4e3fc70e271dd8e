"""Writing the headers of GGUF files, good and bad ones."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from core_gpu.planner.geometry import Geometry, tensors
from core_gpu.planner.quants import gguf_type

_KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
_FILE_TYPES = {"q4_k_m": 15, "q5_k_m": 17}


def text(value: str) -> bytes:
    """Return a string with its length before it."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


@dataclass
class Gguf:
    """A header: keys with the number of their kind and their bytes, tensors with shape and type."""

    entries: list[tuple[str, int, bytes]] = field(default_factory=list)
    tensors: list[tuple[str, tuple[int, ...], int]] = field(default_factory=list)

    def header(self) -> bytes:
        """Return its bytes."""
        made = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.entries))
        for key, kind, data in self.entries:
            made += text(key) + struct.pack("<I", kind) + data
        for name, shape, kind in self.tensors:
            made += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
            made += struct.pack("<IQ", kind, 0)
        return made


def of_model(shape: Geometry, quant: str) -> bytes:
    """Return the header that llama.cpp would write for this model in this format."""
    arch = "qwen2" if shape.qkv_bias else "qwen3" if shape.qk_norm else "llama"
    numbers = {
        "block_count": shape.layers, "embedding_length": shape.hidden, "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads, "attention.key_length": shape.head_dim,
        "feed_forward_length": shape.ffn, "context_length": shape.max_ctx,
    }  # fmt: skip
    made = Gguf([("general.architecture", 8, text(arch))])
    made.entries += [(f"{arch}.{key}", 4, struct.pack("<I", value)) for key, value in numbers.items()]
    made.entries.append(("general.file_type", 4, struct.pack("<I", _FILE_TYPES[quant])))
    tokens = b"".join(text(f"t{number}") for number in range(8))
    made.entries.append(("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 8) + tokens))
    made.entries.append(
        ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 2) + struct.pack("<2f", 0.5, float("nan")))
    )
    for number, tensor in enumerate(tensors(shape)):
        name = f"blk.{tensor.layer}.{tensor.kind}" if tensor.layer >= 0 else tensor.kind
        if tensor.kind == "vector":
            # One tensor stands for a layer's vectors of a kind.
            name += f".{number}"
        size = (tensor.row, tensor.elements // tensor.row) if tensor.kind != "vector" else (tensor.elements,)
        made.tensors.append((f"{name}.weight", size, _KINDS[gguf_type(shape, quant, tensor)]))
    if shape.qkv_bias:
        made.tensors.append(("blk.0.attn_q.bias", (0,), 0))
    if shape.qk_norm:
        made.tensors.append(("blk.0.attn_q_norm.weight", (0,), 0))
    return made.header()
