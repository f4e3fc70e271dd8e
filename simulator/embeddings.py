"""Embeddings in which texts that share words are near each other."""

from __future__ import annotations

import base64
import functools
import math
import random
import re
import struct
import zlib

__all__ = ["as_base64", "vector"]

_WORD = re.compile(r"\w+")


def vector(text: str, dim: int) -> list[float]:
    """Return `dim` float32 values of length 1: the sum of one fixed direction for each word of `text`."""
    total = [0.0] * dim
    for word in _WORD.findall(text.lower()) or [text]:
        for index, value in enumerate(_direction(word, dim)):
            total[index] += value
    norm = math.sqrt(sum(value * value for value in total)) or 1.0
    packed = struct.pack(f"<{dim}f", *(value / norm for value in total))
    return list(struct.unpack(f"<{dim}f", packed))


def as_base64(values: list[float]) -> str:
    """Return the vector as little-endian float32 in base64 (i01_embeddings_base64)."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


@functools.lru_cache(maxsize=4096)
def _direction(word: str, dim: int) -> tuple[float, ...]:
    dice = random.Random(zlib.crc32(word.encode("utf-8", "replace")))
    return tuple(dice.gauss(0.0, 1.0) for _ in range(dim))
