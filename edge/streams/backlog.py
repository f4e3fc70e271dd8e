"""Bytes that wait for the headers before them, which mostly go out in the very next turn of the loop."""

from __future__ import annotations

from typing import Final

__all__ = ["Backlog"]

#: More is only held while the client has not read an earlier answer on its connection.
_HIGH_BYTES: Final = 64 * 1024


class Backlog:
    """Holds what is written until it is taken."""

    __slots__ = ("_held", "size_bytes")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self.size_bytes = 0

    def write(self, data: bytes) -> bool:
        """Hold whole events; False = enough is held."""
        self._held.append(data)
        self.size_bytes += len(data)
        return self.size_bytes <= _HIGH_BYTES

    def take(self) -> bytes:
        """Return all that is held, and hold nothing."""
        held = b"".join(self._held)
        self._held.clear()
        self.size_bytes = 0
        return held
