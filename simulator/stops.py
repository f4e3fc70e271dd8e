"""Stop strings: text is held back while it may be the beginning of one (a06_stream_stop, b02_nonstream_stop)."""

from __future__ import annotations

__all__ = ["Stops"]


class Stops:
    """Finds the first stop string in a text that comes in pieces.

    As the engine does, it holds back one character less than the longest stop string has, always.

    Args:
        strings: what stops the text.
        keep: leave the stop string in the text.
    """

    __slots__ = ("_back", "_keep", "_strings", "_tail")

    def __init__(self, strings: tuple[str, ...], *, keep: bool) -> None:
        self._strings = strings
        self._keep = keep
        self._back = max(map(len, strings)) - 1
        self._tail = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Take more text; return what may be said now, and the stop string if there is one."""
        self._tail += text
        found = [(self._tail.find(string), string) for string in self._strings]
        hits = [(at, string) for at, string in found if at >= 0]
        if hits:
            at, string = min(hits)
            return self._tail[: at + (len(string) if self._keep else 0)], string
        cut = max(0, len(self._tail) - self._back)
        said, self._tail = self._tail[:cut], self._tail[cut:]
        return said, None

    def rest(self) -> str:
        """Return what is still held back; the text has ended."""
        said, self._tail = self._tail, ""
        return said
