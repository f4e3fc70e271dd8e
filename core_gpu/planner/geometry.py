"""A transformer's shape: all that decides how large its weights and its KV cache are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, Literal, NamedTuple

from core_gpu.planner.units import PlanError

__all__ = ["Geometry", "Kind", "Tensor", "checked", "parameters", "printable", "tensors"]

Kind = Literal[
    "token_embd", "output", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "vector",
    "router",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """One decoder-only model: dense or mixture of experts, with MHA, GQA or MQA and a gated feed-forward block."""

    name: str
    layers: int
    hidden: int
    heads: int
    #: Equal to `heads` = multi-head attention; fewer = grouped queries, and a KV cache smaller by that factor.
    kv_heads: int
    head_dim: int
    #: Width of the feed-forward block; of one expert, where there are several.
    ffn: int
    vocab: int
    #: The output matrix is the token embedding.
    tied: bool = False
    #: Q, K and V projections have biases (Qwen2).
    qkv_bias: bool = False
    #: Q and K are normalised per head (Qwen3, Gemma 3).
    qk_norm: bool = False
    norms_per_layer: int = 2
    #: Tokens that a sliding-window layer keeps; 0 = none has one.
    window: int = 0
    #: How many of the layers have that window.
    window_layers: int = 0
    experts: int = 0
    #: Longest context the model was trained for, in tokens; 0 = not known.
    max_ctx: int = 0
    #: Its vision encoder at 16 bits, bytes; 0 = it has none.
    vision_bytes: int = 0
    #: Where these numbers were read.
    source: str = ""


class Tensor(NamedTuple):
    """One weight."""

    kind: Kind
    #: -1 = outside the layers.
    layer: int
    #: Length of a row: what block quantisation divides.
    row: int
    elements: int


_LIMITS: Final = {
    "layers": (1, 1_024),
    "hidden": (1, 131_072),
    "heads": (1, 2_048),
    "kv_heads": (1, 2_048),
    "head_dim": (1, 2_048),
    "ffn": (1, 1_048_576),
    "vocab": (1, 4_194_304),
    "norms_per_layer": (1, 8),
    "window": (0, 16_777_216),
    "window_layers": (0, 1_024),
    "experts": (0, 4_096),
    "max_ctx": (0, 1_073_741_824),
}


def checked(geometry: Geometry, where: str) -> Geometry:
    """Return `geometry` if it is one that could exist.

    Raises:
        PlanError: `where: field: limit, got …`.
    """
    for field in fields(geometry):
        if field.name in _LIMITS:
            low, high = _LIMITS[field.name]
            value = getattr(geometry, field.name)
            if not low <= value <= high:
                raise PlanError(f"{where}: {field.name}: expected {low} to {high:,}, got {value:,}")
    if geometry.heads % geometry.kv_heads:
        raise PlanError(f"{where}: kv_heads: expected a divisor of heads ({geometry.heads}), got {geometry.kv_heads}")
    if geometry.window_layers > geometry.layers:
        raise PlanError(
            f"{where}: window_layers: expected at most layers ({geometry.layers}), got {geometry.window_layers}"
        )
    return geometry


def printable(name: str) -> str:
    """Return at most 60 characters of a name out of a file, without those that would move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in name[:60])


def tensors(geometry: Geometry) -> Iterator[Tensor]:
    """Yield every weight, in the order of the layers."""
    shape = geometry
    yield Tensor("token_embd", -1, shape.hidden, shape.vocab * shape.hidden)
    q_out, kv_out = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    experts = max(1, shape.experts)
    for layer in range(shape.layers):
        yield Tensor("attn_q", layer, shape.hidden, shape.hidden * q_out)
        yield Tensor("attn_k", layer, shape.hidden, shape.hidden * kv_out)
        yield Tensor("attn_v", layer, shape.hidden, shape.hidden * kv_out)
        yield Tensor("attn_output", layer, q_out, q_out * shape.hidden)
        yield Tensor("ffn_gate", layer, shape.hidden, experts * shape.hidden * shape.ffn)
        yield Tensor("ffn_up", layer, shape.hidden, experts * shape.hidden * shape.ffn)
        yield Tensor("ffn_down", layer, shape.ffn, experts * shape.ffn * shape.hidden)
        if shape.experts:
            yield Tensor("router", layer, shape.hidden, shape.hidden * shape.experts)
        yield Tensor("vector", layer, shape.hidden, shape.norms_per_layer * shape.hidden)
        if shape.qk_norm:
            yield Tensor("vector", layer, shape.head_dim, 2 * shape.head_dim)
        if shape.qkv_bias:
            yield Tensor("vector", layer, q_out, q_out + 2 * kv_out)
    yield Tensor("vector", -1, shape.hidden, shape.hidden)
    if not shape.tied:
        yield Tensor("output", -1, shape.hidden, shape.vocab * shape.hidden)


def parameters(geometry: Geometry) -> int:
    """Return the number of parameters."""
    return sum(tensor.elements for tensor in tensors(geometry))
