"""High and low water marks over a count of bytes: when to pause a writer, and when to let it go on.

The rule is that of `websockets`: above the high mark pause once, at or below the low mark resume once. The gap
between the two keeps a stream from pausing and resuming with every event.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Marks"]


class Marks:
    """Counts buffered bytes and tells when they cross a mark.

    Args:
        high_bytes: `on_pause` is called when the level rises above this.
        low_bytes: `on_resume` is called when a paused level has come down to this; a quarter of the high mark
            when left out.
        on_pause: called once for each crossing of the high mark.
        on_resume: called once for each return to the low mark.

    Raises:
        ValueError: not 0 <= low <= high.
    """

    __slots__ = ("_level_bytes", "_on_pause", "_on_resume", "_paused", "high_bytes", "low_bytes")

    def __init__(
        self,
        high_bytes: int,
        low_bytes: int | None = None,
        *,
        on_pause: Callable[[], None],
        on_resume: Callable[[], None],
    ) -> None:
        self.high_bytes = high_bytes
        self.low_bytes = high_bytes // 4 if low_bytes is None else low_bytes
        if not 0 <= self.low_bytes <= high_bytes:
            raise ValueError(f"marks need 0 <= low <= high, not low={self.low_bytes} high={high_bytes}")
        self._on_pause = on_pause
        self._on_resume = on_resume
        self._level_bytes = 0
        self._paused = False

    @property
    def level_bytes(self) -> int:
        """Bytes added and not yet removed."""
        return self._level_bytes

    @property
    def paused(self) -> bool:
        """Whether the writer was told to pause, and not yet to go on."""
        return self._paused

    def add(self, size_bytes: int) -> None:
        """Count `size_bytes` in."""
        self._level_bytes += size_bytes
        if self._level_bytes > self.high_bytes and not self._paused:
            self._paused = True
            self._on_pause()

    def remove(self, size_bytes: int) -> None:
        """Count `size_bytes` out.

        Raises:
            ValueError: more than was added.
        """
        if size_bytes > self._level_bytes:
            raise ValueError(f"cannot remove {size_bytes} bytes, only {self._level_bytes} are buffered")
        self._level_bytes -= size_bytes
        if self._level_bytes <= self.low_bytes and self._paused:
            self._paused = False
            self._on_resume()
