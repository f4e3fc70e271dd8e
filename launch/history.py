"""What processes said before, as far as a window needs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from launch.scrapes import Scrape

__all__ = ["History"]

#: However often is looked: a scrape is some hundred kilobytes here.
_KEPT: Final = 60


class History:
    """Scrapes of the last `window_s` seconds, at most sixty of each process.

    Args:
        window_s: length.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, Mapping[str, Scrape]]] = deque()
        #: Addresses where somebody of ours answered once.
        self.seen: set[str] = set()

    def __len__(self) -> int:
        """Return how many times are kept."""
        return len(self._kept)

    def pairs(self, now: Mapping[str, Scrape]) -> list[tuple[Scrape, Scrape | None]]:
        """Return each process as it is, and as it was at the window's beginning or as soon after as it was asked.

        A process that was started anew at its address is another one, and has no beginning before that.
        """
        return [(one, self._then(one)) for _, one in sorted(now.items())]

    def add(self, now: Mapping[str, Scrape], at_s: float) -> None:
        """Keep what was said at a time, in monotonic seconds."""
        self.seen.update(now)
        while self._kept and self._kept[0][0] < at_s - self._window_s:
            self._kept.popleft()
        if not self._kept or at_s - self._kept[-1][0] >= self._window_s / _KEPT:
            self._kept.append((at_s, now))

    def _then(self, now: Scrape) -> Scrape | None:
        found = (said[now.url] for _, said in self._kept if now.url in said)
        return next((then for then in found if then.born_s == now.born_s), None)
