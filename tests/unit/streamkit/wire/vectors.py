"""Bytes that real engines sent; tests/vectors/sse/README.md says where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[3] / "vectors" / "sse"


class Captured(NamedTuple):
    name: str
    body: bytes
    n: int
    #: False where the engine was killed before the end.
    whole: bool


class Refusal(NamedTuple):
    name: str
    status: int
    content_type: str
    body: bytes


def streams() -> list[Captured]:
    rows = json.loads((FOLDER / "streams.json").read_text())
    return [Captured(row["file"], (FOLDER / row["file"]).read_bytes(), row["n"], row["whole"]) for row in rows]


def refusals() -> list[Refusal]:
    rows = json.loads((FOLDER / "refusals.json").read_text())
    return [Refusal(row["name"], row["status"], row["content_type"], row["body"].encode()) for row in rows]


def stream(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
