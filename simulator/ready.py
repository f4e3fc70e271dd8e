"""The file by which a simulator says that it is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

__all__ = ["announce"]


def announce(path: Path, members: Mapping[str, str | int]) -> None:
    """Write `members` and our process id as JSON; a reader sees the whole file or none."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(msgspec.json.encode({**members, "pid": os.getpid()}))
    part.replace(path)
