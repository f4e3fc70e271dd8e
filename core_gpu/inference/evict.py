"""Who goes when there is no room, and where a newcomer goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

__all__ = ["Assignment", "Used", "victim"]


class Used(Protocol):
    """What is known of a loaded model's use."""

    @property
    def requests(self) -> int:
        """Requests so far."""
        ...

    @property
    def used_s(self) -> float:
        """When the last one ended, monotonic."""
        ...


U = TypeVar("U", bound=Used)


def victim(policy: str, candidates: Iterable[U]) -> U | None:
    """Return the one to evict: used longest ago (`lru`), or least often and then longest ago (`lfu`)."""
    if policy == "lfu":
        return min(candidates, key=lambda one: (one.requests, one.used_s), default=None)
    return min(candidates, key=lambda one: one.used_s, default=None)


class Assignment:
    """Chooses the device of a model that prefers none.

    Args:
        policy: `round-robin` or `least-loaded`.
    """

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._next = 0

    def choose(self, used_mb: Sequence[int]) -> int:
        """Return an index into `used_mb`, which has each device's load."""
        if self._policy == "least-loaded":
            return min(range(len(used_mb)), key=lambda at: (used_mb[at], at))
        chosen = self._next % len(used_mb)
        self._next = chosen + 1
        return chosen
