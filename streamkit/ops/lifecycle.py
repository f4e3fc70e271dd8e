"""The four states of a process, and the two signals that move it to its end."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["TRANSITIONS", "Lifecycle", "State"]


class State(enum.StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


#: From a state to those that may follow it. A signal may come before the process is ready.
TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.STARTING: frozenset({State.READY, State.DRAINING, State.STOPPED}),
    State.READY: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
}


async def _nothing_to_finish() -> None:
    return


class Lifecycle:
    """One process's life, shared by its server, its readiness page and its work.

    Args:
        settle_ms: how long the process still accepts after it stopped being ready, so that load balancers and
            control notice first.
        drain_ms: how long accepted work may take to finish after that; what is left is cut.
    """

    def __init__(self, *, settle_ms: int, drain_ms: int) -> None:
        self.settle_ms = settle_ms
        self.drain_ms = drain_ms
        self.state = State.STARTING
        #: Called once, in order, when the drain begins.
        self.on_drain: list[Callable[[], None]] = []
        #: Called once, in order, when the work is over and the ops port is about to end.
        self.on_finished: list[Callable[[], None]] = []
        #: Returns when the service has finished all its work; asked again at every drain.
        self.idle: Callable[[], Awaitable[None]] = _nothing_to_finish
        self._draining = asyncio.Event()
        self._forced = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether new work should come here."""
        return self.state is State.READY

    @property
    def draining(self) -> bool:
        """Whether the process is on its way out."""
        return self._draining.is_set()

    @property
    def forced(self) -> bool:
        """Whether the rest of the work is to be cut without waiting."""
        return self._forced.is_set()

    def started(self) -> None:
        """Turn ready, unless a signal was quicker."""
        if self.state is State.STARTING:
            self._to(State.READY)

    def begin_drain(self) -> None:
        """Stop being ready and tell the hooks; further calls do nothing."""
        if self.state in (State.STARTING, State.READY):
            self._to(State.DRAINING)
            self._draining.set()
            for hook in self.on_drain:
                hook()

    def finished(self) -> None:
        """Tell the last hooks: nothing more will happen here; further calls do nothing."""
        hooks, self.on_finished = self.on_finished, []
        for hook in hooks:
            hook()

    def interrupt(self) -> None:
        """Take SIGTERM or SIGINT: the first begins the drain, the second cuts it short."""
        if self.draining:
            self._forced.set()
        else:
            self.begin_drain()

    def stopped(self) -> None:
        """Enter the last state."""
        if self.state is not State.STOPPED:
            self._to(State.STOPPED)

    async def drain_begun(self) -> None:
        """Return once the drain has begun."""
        await self._draining.wait()

    async def force_begun(self) -> None:
        """Return once the drain was cut short."""
        await self._forced.wait()

    def _to(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a {self.state} process cannot become {state}")
        self.state = state
