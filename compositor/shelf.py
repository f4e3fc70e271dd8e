"""What was made once and is used by many: bounded in bytes; what nobody uses goes, used longest ago first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Shelf"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Kept(Generic[V]):
    value: V
    size_bytes: int
    users: int = 0


class Shelf(Generic[K, V]):
    """Things by key. Used from one event loop.

    Args:
        limit_bytes: of all that is kept; things in use are never dropped, so one that finds no room is refused.
        size_of: bytes of a thing.
        limit: the setting, for messages.
    """

    def __init__(self, limit_bytes: int, size_of: Callable[[V], int], limit: str) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        #: How often a thing was there, and how often it had to be made.
        self.hits = 0
        self.misses = 0
        self._size_of = size_of
        self._limit = limit
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._making: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def users(self) -> int:
        """How often things are held now."""
        return sum(kept.users for kept in self._kept.values())

    async def hold(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """Return the thing, made now if need be, and keep it until `release`; many askers share one making.

        Raises:
            HeadraceError: there is no room beside what is in use, or what `make` raises.
        """
        there = self.at_hand(key)
        if there is not None:
            return there
        making = self._making.get(key)
        if making is None:
            self.misses += 1
            making = self._making[key] = asyncio.create_task(self._make(key, make), name=f"make {key}")
            making.add_done_callback(lambda done: self._made(key, done))
        else:
            self.hits += 1
        # One asker that leaves must not end the making for the others.
        await asyncio.shield(making)
        kept = self._kept.get(key)
        if kept is None:
            raise HeadraceError(Code.SATURATED, f"no room for it just now ({self._limit})", retry_after_ms=1_000)
        kept.users += 1
        self._kept.move_to_end(key)
        return kept.value

    def at_hand(self, key: K) -> V | None:
        """Return the thing as `hold` does if it is there already; None = it would have to be made."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self.hits += 1
        kept.users += 1
        self._kept.move_to_end(key)
        return kept.value

    def release(self, key: K) -> None:
        """Let go of what `hold` gave."""
        kept = self._kept[key]
        if kept.users < 1:
            raise RuntimeError(f"{key} is released more often than it was held")
        kept.users -= 1

    async def close(self) -> None:
        """Wait for what is being made, and forget everything that nobody uses."""
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        for key in [key for key, kept in self._kept.items() if not kept.users]:
            self.used_bytes -= self._kept.pop(key).size_bytes

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        value = await make()
        size = self._size_of(value)
        self._room(size)
        self._kept[key] = _Kept(value, size)
        self.used_bytes += size
        return value

    def _made(self, key: K, done: asyncio.Task[V]) -> None:
        del self._making[key]
        if not done.cancelled():
            # Whoever asked is told; nobody may be left to.
            done.exception()

    def _room(self, size: int) -> None:
        for key in [key for key, kept in self._kept.items() if not kept.users]:
            if self.used_bytes + size <= self.limit_bytes:
                return
            self.used_bytes -= self._kept.pop(key).size_bytes
        if self.used_bytes + size > self.limit_bytes:
            raise HeadraceError(
                Code.SATURATED,
                f"{size} bytes are needed, {self.limit_bytes - self.used_bytes} are free ({self._limit})",
                retry_after_ms=5_000,
            )
