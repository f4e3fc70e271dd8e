"""A number of permits. Who finds none free stands in a `Line` before several of them.

A permit is held until the upstream body ends (law 3). The limit may be changed at any time: one that shrinks under
use takes nothing back, and grants nothing until enough has been released.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Permit", "Permits"]


class Permits:
    """At most `limit` holders at a time. Used from one event loop.

    Args:
        limit: permits that may be held at a time; 0 holds everybody back.

    Raises:
        ValueError: the limit is negative.
    """

    __slots__ = ("_in_use", "_limit", "on_free")

    def __init__(self, limit: int) -> None:
        self._limit = _checked(limit)
        self._in_use = 0
        #: Called when permits have become free: for a line before several Permits.
        self.on_free: Callable[[Permits], None] | None = None

    @property
    def limit(self) -> int:
        """Permits that may be held at a time."""
        return self._limit

    @property
    def in_use(self) -> int:
        """Permits held now; more than `limit` after the limit has shrunk under use."""
        return self._in_use

    def set_limit(self, limit: int) -> None:
        """Change the limit; who waits for what it adds is told at once.

        Raises:
            ValueError: the limit is negative.
        """
        self._limit = _checked(limit)
        self._freed()

    def try_acquire(self) -> Permit | None:
        """Return a permit, or None when all are held."""
        if self._in_use >= self._limit:
            return None
        self._in_use += 1
        return Permit(self)

    def _release(self) -> None:
        self._in_use -= 1
        self._freed()

    def _freed(self) -> None:
        if self.on_free is not None and self._in_use < self._limit:
            self.on_free(self)


class Permit:
    """The right to one place, until `release`."""

    __slots__ = ("_permits",)

    def __init__(self, permits: Permits) -> None:
        self._permits: Permits | None = permits

    def release(self) -> None:
        """Give the place back; who waits for it has it before this returns. Again does nothing."""
        permits, self._permits = self._permits, None
        if permits is not None:
            permits._release()  # noqa: SLF001 - a permit is half of its Permits


def _checked(limit: int) -> int:
    if limit < 0:
        raise ValueError(f"a limit of permits cannot be negative: {limit}")
    return limit
