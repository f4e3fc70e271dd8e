"""Reading a model's shape out of the `config.json` that lies beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

from core_gpu.planner.geometry import Geometry, checked, printable
from core_gpu.planner.units import PlanError

__all__ = ["parse_config", "read_config"]

_MOST_BYTES: Final = 1_048_576
#: Families whose tensors are the ones that `geometry.tensors` lists.
_FAMILIES: Final = frozenset({
    "llama", "mistral", "mixtral", "qwen2", "qwen2_5_vl_text", "qwen2_vl", "qwen3", "qwen3_moe", "qwen3_vl_text",
    "gemma2", "gemma3", "gemma3_text", "smollm", "vicuna",
})  # fmt: skip
#: Where config.json says nothing, the family's default in transformers.
_TIED: Final = frozenset({"gemma2", "gemma3", "gemma3_text"})
_WINDOWED_EACH: Final = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6}


def read_config(path: str | PathLike[str]) -> Geometry:
    """Return the shape that the file at `path` describes.

    Raises:
        PlanError: there is no such file, it is no JSON object, or its model is not one that can be planned.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise PlanError(f"{path}: no such file") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_config(data, str(path))


def parse_config(data: bytes, where: str) -> Geometry:
    """Return the shape that the bytes of a `config.json` describe.

    Raises:
        PlanError: as `read_config`.
    """
    if len(data) > _MOST_BYTES:
        raise PlanError(f"{where}: expected at most {_MOST_BYTES:,} bytes of config.json")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):
        raise PlanError(f"{where}: not valid JSON") from None
    if not isinstance(config, dict):
        raise PlanError(f"{where}: expected a JSON object")
    name = str(config.get("_name_or_path") or config.get("model_type") or "model")
    if isinstance(config.get("text_config"), dict):
        config = {"model_type": config.get("model_type"), **config["text_config"]}
    return _geometry(config, where, name)


def _geometry(config: Mapping[str, Any], where: str, name: str) -> Geometry:
    def number(*keys: str, otherwise: int | None = None) -> int:
        for key in keys:
            value = config.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            if value is not None:
                raise PlanError(f"{where}: {key}: expected a whole number, got {str(value)[:40]!r}")
        if otherwise is None:
            raise PlanError(f"{where}: {keys[0]}: required, but missing")
        return otherwise

    family = str(config.get("model_type"))
    if number("kv_lora_rank", otherwise=0):
        raise PlanError(f"{where}: kv_lora_rank: multi-head latent attention cannot be planned yet")
    if family not in _FAMILIES:
        raise PlanError(
            f"{where}: model_type: {family[:40]!r} is not a family that can be planned"
            f" ({', '.join(sorted(_FAMILIES))}); give its shape with --layers and its kin, or a GGUF file"
        )
    layers, hidden = number("num_hidden_layers"), number("hidden_size")
    heads = number("num_attention_heads")
    experts = number("num_experts", "num_local_experts", otherwise=0)
    window = number("sliding_window", otherwise=0) if config.get("use_sliding_window", True) else 0
    return checked(
        Geometry(
            name=printable(name), layers=layers, hidden=hidden, heads=heads,
            kv_heads=number("num_key_value_heads", otherwise=heads),
            head_dim=number("head_dim", otherwise=hidden // max(1, heads)),
            ffn=number("moe_intermediate_size", otherwise=0) or number("intermediate_size"),
            vocab=number("vocab_size"), tied=bool(config.get("tie_word_embeddings", family in _TIED)),
            qkv_bias=family.startswith("qwen2") or config.get("attention_bias") is True,
            qk_norm=family.startswith(("qwen3", "gemma3")), norms_per_layer=4 if family.startswith("gemma") else 2,
            experts=experts, window=window, window_layers=_windowed(config, family, layers) if window else 0,
            max_ctx=number("max_position_embeddings", otherwise=0), source=where,
        ),
        where,
    )  # fmt: skip


def _windowed(config: Mapping[str, Any], family: str, layers: int) -> int:
    """Return how many layers keep a sliding window only."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return min(layers, kinds.count("sliding_attention"))
    each = config.get("sliding_window_pattern") or _WINDOWED_EACH.get(family, 0)
    if not isinstance(each, int) or isinstance(each, bool) or each < 1:
        return layers
    return layers - layers // each
