"""What a child writes: kept on disk within a bound, its last lines in memory for the report of its death."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Final

__all__ = ["Log"]

_TAIL_LINES: Final = 20
_LINE_BYTES: Final = 8 * 1024
_FILE_BYTES: Final = 4 * 1024 * 1024


class Log:
    """One child's log: `path`, and one older file beside it.

    Args:
        path: begun anew here.
        file_bytes: size at which the file is turned over.
    """

    def __init__(self, path: Path, *, file_bytes: int = _FILE_BYTES) -> None:
        self.path = path
        self._room = self._file_bytes = file_bytes
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._file = path.open("wb")

    def tail(self) -> list[str]:
        """Return the last lines, oldest first."""
        return list(self._tail)

    async def copy(self, reader: asyncio.StreamReader) -> None:
        """Take all that comes, until its end."""
        held = b""
        while piece := await reader.read(_LINE_BYTES):
            self._write(piece)
            *lines, held = (held + piece).split(b"\n")
            held = held[-_LINE_BYTES:]
            self._tail.extend(line.decode("utf-8", "replace") for line in lines if line.strip())
        if held.strip():
            self._tail.append(held.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, piece: bytes) -> None:
        if len(piece) > self._room:
            self._file.close()
            self.path.replace(self.path.with_suffix(".log.1"))
            self._file = self.path.open("wb")
            self._room = self._file_bytes
        self._room -= len(piece)
        self._file.write(piece)
        self._file.flush()
