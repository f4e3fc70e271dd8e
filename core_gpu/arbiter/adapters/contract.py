"""The contract of an engine's adapter: how it is, how busy it is, and making it let memory go.

An engine's word about memory proves nothing: `make_room` only asks, `confirm_released` measures (facts: gpu-backends
§1.1, §1.2: a sleep that answers 200 and frees nothing, an unload that answers before it is done).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from streamkit.flow.clock import Clock

__all__ = ["Adapter", "AdapterError", "Busy", "Measure", "ModelState", "Room", "Status", "released_mb"]

#: Gives what an engine's processes hold in MiB, as measured; None = nobody can say.
Measure = Callable[[], int | None]
_POLL_S: Final = 0.05


class AdapterError(Exception):
    """An engine did not do as it was asked; the message is one line for a person."""


class ModelState(enum.StrEnum):
    """Where a model of an engine is."""

    RESIDENT = "resident"
    #: On its way in: it holds memory, and does not serve yet.
    LOADING = "loading"
    #: The engine knows it and would have to load it.
    COLD = "cold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How an engine is.

    Args:
        alive: it answers as a healthy engine does; whether it is busy is another question.
        models: what it has.
        detail: a few words for a person.
    """

    alive: bool
    models: Mapping[str, ModelState] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """How busy an engine says it is; None = it has no word for that.

    Args:
        running: requests in work.
        waiting: requests in its own queue.
        stalled: it claims to work and has made nothing for too long: its figures are not news.
        prefix_queries: tokens looked up in its prefix cache since it started.
        prefix_hits: those of them that it found there.
        cache_usage: part of its KV cache that is taken, 0 to 1.
    """

    running: int | None = None
    waiting: int | None = None
    stalled: bool = False
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    cache_usage: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What an engine was asked to let go.

    Args:
        asked: models that it said it would let go; empty = nothing was asked.
        why: why nothing was, or more was not.
    """

    asked: tuple[str, ...] = ()
    why: str = ""


class Adapter(Protocol):
    """One engine. No method waits for longer than its call's deadline."""

    async def status(self) -> Status:
        """Return how it is; every way to fail is a status."""

    async def busy(self) -> Busy:
        """Return how busy it is; an engine that does not answer says nothing."""

    async def make_room(self, mb: int) -> Room:
        """Ask it to let go of about `mb` MiB, without breaking off a request. What it answers proves nothing."""

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        """Return how many MiB less than `before_mb` are measured: once it is `mb`, or time is over."""

    async def load(self, model: str, *, within_s: float) -> None:
        """Have a model resident.

        Raises:
            AdapterError: it is not, or cannot be.
        """


async def released_mb(measure: Measure, mb: int, *, before_mb: int, within_s: float, clock: Clock) -> int:
    """Return how much less is measured than `before_mb`: at once when it is `mb`, else when `within_s` are over.

    Args:
        measure: what is held now.
        mb: enough.
        before_mb: what was held before anybody was asked.
        within_s: longest wait, in seconds.
        clock: monotonic seconds.
    """
    end_s = clock() + within_s
    while True:
        held_mb = measure()
        freed_mb = 0 if held_mb is None else max(0, before_mb - held_mb)
        if freed_mb >= mb or clock() >= end_s:
            return freed_mb
        await asyncio.sleep(_POLL_S)
