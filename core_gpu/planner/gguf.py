"""Reading a GGUF file's header, and nothing behind it: the shape, and the exact bytes of every tensor.

The format is ggml's docs/gguf.md, versions 2 and 3, little-endian. Every count is bounded before it is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Final

from core_gpu.planner.geometry import Geometry, checked, printable
from core_gpu.planner.quants import TYPES
from core_gpu.planner.units import PlanError

__all__ = ["GgufFile", "parse_gguf", "read_gguf"]

#: Tokenizers make a header's bulk: 256,000 tokens are about 7 MB.
_MOST_BYTES: Final = 64 * 2**20
_MOST_ENTRIES: Final = 65_536
_MOST_ITEMS: Final = 4_194_304
_MOST_TEXT: Final = 1_048_576
_MOST_NAME: Final = 65_535

_SCALARS: Final = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
#: Of arrays only integers are ever asked for: heads per layer, at most so many.
_INTEGERS: Final = (0, 1, 2, 3, 4, 5, 10, 11)
_MOST_KEPT: Final = 1_024
_STRING: Final = 8
_ARRAY: Final = 9
#: ggml's numbers of the types that `TYPES` names, and of those that only have a size here: (elements, bytes).
_NAMED: Final = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K",
                 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16"}  # fmt: skip
_SIZED: Final = {9: (32, 36), 15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50),
                 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4),
                 27: (1, 8), 28: (1, 8), 29: (256, 56), 34: (256, 54), 35: (256, 66), 39: (32, 17)}  # fmt: skip
#: `general.file_type`: llama.cpp's number of a mixture, by its name here.
_FILE_TYPES: Final = {0: "f32", 1: "f16", 2: "q4_0", 7: "q8_0", 8: "q5_0", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m",
                      13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k",
                      32: "bf16-gguf"}  # fmt: skip

_Value = int | float | str | list[int] | None


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a header says."""

    geometry: Geometry
    #: None = a mixture that this planner has no rules for; its size is known all the same.
    quant: str | None
    #: Of all tensors, as stored.
    weights_bytes: int


class _Cursor:
    """A bounded reader: no count in the file can make it read, or keep, more than its limits."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self.where = file, where
        self.position = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if self.position + size > _MOST_BYTES:
            raise self.wrong(f"its header is longer than {_MOST_BYTES // 2**20} MiB")
        data = self._file.read(size)
        if len(data) != size:
            raise self.wrong(f"it ends within its header, at byte {self.position + len(data)}")
        self.position += size
        return data

    def number(self, form: str) -> int | float:
        """Return the next number of `struct`'s form."""
        value: int | float = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, most: int, what: str) -> int:
        """Return the next unsigned 64-bit count, refused beyond `most`."""
        value = int(self.number("<Q"))
        if value > most:
            raise self.wrong(f"{what}: expected at most {most:,}, got {value:,}")
        return value

    def text(self, most: int, what: str) -> str:
        """Return the next string."""
        return self.take(self.count(most, what)).decode("utf-8", "replace")

    def wrong(self, what: str) -> PlanError:
        """Return the error for this file."""
        return PlanError(f"{self.where}: not a GGUF file that can be read: {what}")


def read_gguf(path: str | PathLike[str]) -> GgufFile:
    """Return what the header of the file at `path` says.

    Raises:
        PlanError: there is no such file, or it is not GGUF, or its model is not one that can be planned.
    """
    try:
        with Path(path).open("rb") as file:
            return parse_gguf(file, str(path))
    except FileNotFoundError:
        raise PlanError(f"{path}: no such file") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from None


def parse_gguf(file: BinaryIO, where: str) -> GgufFile:
    """Return what the header at the start of `file` says.

    Raises:
        PlanError: as `read_gguf`.
    """
    cursor = _Cursor(file, where)
    if cursor.take(4) != b"GGUF":
        raise cursor.wrong("it does not begin with GGUF")
    version = int(cursor.number("<I"))
    if version not in (2, 3):
        raise cursor.wrong(f"expected version 2 or 3, got {version}")
    tensor_count = cursor.count(_MOST_ENTRIES, "its number of tensors")
    entries = cursor.count(_MOST_ENTRIES, "its number of keys")
    metadata: dict[str, _Value] = {}
    for _ in range(entries):
        key = cursor.text(_MOST_NAME, "the length of a key")
        metadata[key] = _value(cursor, int(cursor.number("<I")))
    shapes: dict[str, tuple[int, ...]] = {}
    total = 0
    for _ in range(tensor_count):
        name, shape, size = _tensor(cursor)
        shapes[name] = shape
        total += size
    geometry = _geometry(metadata, shapes, cursor)
    file_type = metadata.get("general.file_type")
    quant = _FILE_TYPES.get(file_type) if isinstance(file_type, int) else None
    return GgufFile(geometry, quant, total)


def _value(cursor: _Cursor, kind: int) -> _Value:
    """Read one value; of arrays, only the length of strings and the numbers of short ones are kept."""
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text(_MOST_TEXT, "the length of a text")
    if kind != _ARRAY:
        raise cursor.wrong(f"unknown kind of value {kind}")
    inner = int(cursor.number("<I"))
    length = cursor.count(_MOST_ITEMS, "the length of an array")
    if inner == _STRING:
        for _ in range(length):
            cursor.take(cursor.count(_MOST_TEXT, "the length of a text"))
        return length
    if inner not in _SCALARS:
        raise cursor.wrong(f"an array of kind {inner}")
    size = struct.calcsize(_SCALARS[inner])
    if length > _MOST_KEPT or inner not in _INTEGERS:
        cursor.take(size * length)
        return length
    return [int(cursor.number(_SCALARS[inner])) for _ in range(length)]


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int]:
    name = cursor.text(_MOST_NAME, "the length of a tensor's name")
    dimensions = int(cursor.number("<I"))
    if not 1 <= dimensions <= 4:
        raise cursor.wrong(f"tensor {name[:40]!r}: expected 1 to 4 dimensions, got {dimensions}")
    shape = tuple(cursor.count(2**40, f"a dimension of {name[:40]!r}") for _ in range(dimensions))
    kind = int(cursor.number("<I"))
    cursor.number("<Q")
    block = TYPES[_NAMED[kind]] if kind in _NAMED else _SIZED.get(kind)
    if block is None:
        raise cursor.wrong(f"tensor {name[:40]!r} has the unknown type {kind}")
    return name, shape, -(-prod(shape) // block[0]) * block[1]


def _geometry(metadata: dict[str, _Value], shapes: dict[str, tuple[int, ...]], cursor: _Cursor) -> Geometry:
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise cursor.wrong("it names no general.architecture")

    def number(key: str, otherwise: int | None = None, pick: Callable[[list[int]], int] = max) -> int:
        value = metadata.get(f"{architecture}.{key}")
        if isinstance(value, list) and value:
            value = pick(value)
        if isinstance(value, int):
            return value
        if otherwise is None:
            raise cursor.wrong(f"it has no {architecture[:40]!r} key {key}")
        return otherwise

    if number("attention.kv_lora_rank", 0):
        raise PlanError(f"{cursor.where}: {architecture[:40]!r}: multi-head latent attention cannot be planned yet")
    hidden, heads = number("embedding_length"), number("attention.head_count")
    embedding = shapes.get("token_embd.weight", ())
    tokens = metadata.get("tokenizer.ggml.tokens")
    vocab = embedding[1] if len(embedding) == 2 else tokens if isinstance(tokens, int) else number("vocab_size")
    layers, window = number("block_count"), number("attention.sliding_window", 0)
    experts = number("expert_count", 0)
    shape = Geometry(
        name=printable(str(metadata.get("general.name") or architecture)), layers=layers, hidden=hidden, heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", hidden // max(1, heads)),
        ffn=number("expert_feed_forward_length", 0) or number("feed_forward_length"), vocab=vocab,
        tied="output.weight" not in shapes, qkv_bias="blk.0.attn_q.bias" in shapes,
        qk_norm="blk.0.attn_q_norm.weight" in shapes, norms_per_layer=4 if architecture.startswith("gemma") else 2,
        experts=experts, window=window, max_ctx=number("context_length", 0), source="GGUF header",
    )  # fmt: skip
    # Which layers have the window is the engine's knowledge, not the file's: known for Gemma, else none counts.
    windowed = {"gemma2": layers // 2, "gemma3": layers - layers // 6}.get(architecture, 0) if window else 0
    return checked(replace(shape, window_layers=windowed), cursor.where)
