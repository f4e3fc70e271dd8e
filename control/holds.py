"""Backends that get no new work for a while though they answer: healing acts, each with an end.

Edges carry them out: route answers name held backends beside the others, so that an edge which loses control can end
a hold by itself. A hold that nobody renews ends by itself, so that whoever made it may die. Pure: a clock in, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.wire.state import Hold

__all__ = ["MAX_HOLDS", "AilingRequest", "HoldRequest", "Holds"]

MAX_HOLDS: Final = 1_024
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Why = Annotated[str, msgspec.Meta(max_length=256)]


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/holds`."""

    backend: _Name
    #: The node whose edges leave it alone; empty = all.
    node: Annotated[str, msgspec.Meta(max_length=32)] = ""
    #: How long it lasts from now on; 0 ends it.
    ttl_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 60_000
    why: _Why = ""


class AilingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/ailing`."""

    backend: _Name
    why: _Why = ""


@dataclass(slots=True)
class _Held:
    hold: Hold
    until_s: float


class Holds:
    """All holds in force.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._held: dict[tuple[str, str], _Held] = {}

    @property
    def active(self) -> tuple[Hold, ...]:
        """Those in force, in order of name."""
        return tuple(held.hold for _, held in sorted(self._held.items()))

    def of(self, backend: str) -> tuple[str, ...]:
        """Return the nodes that give the backend no work; an empty name = all do not."""
        return tuple(sorted(node for name, node in self._held if name == backend))

    def put(self, asked: HoldRequest) -> bool:
        """Make, renew or end a hold; return whether anything is different now.

        Raises:
            ValueError: there are `MAX_HOLDS` already.
        """
        key = (asked.backend, asked.node)
        before = self._held.get(key)
        if not asked.ttl_ms:
            return self._held.pop(key, None) is not None
        if before is None and len(self._held) >= MAX_HOLDS:
            raise ValueError(f"there are {MAX_HOLDS} holds already")
        # A renewal has figures of its own in its reason; that is no news.
        why = asked.why if before is None else before.hold.why
        hold = Hold(backend=asked.backend, node=asked.node, why=why, ttl_ms=asked.ttl_ms)
        self._held[key] = _Held(hold, self._clock() + asked.ttl_ms / 1000)
        return before is None or before.hold != hold

    def expire(self) -> tuple[Hold, ...]:
        """End what nobody renewed, and return it."""
        now = self._clock()
        over = [key for key, held in self._held.items() if held.until_s <= now]
        return tuple(self._held.pop(key).hold for key in over)
