"""The services of one machine as children of one process: started, restarted when they die, ended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from launch.child import Child, StartError, ending
from launch.configuration import Configuration
from launch.layout import CONTROL, EDGE, Layout
from launch.ports import ports

__all__ = ["GaveUpError", "Patience", "Reporter", "Site"]


class GaveUpError(Exception):
    """A service died too often; the message is one line."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a site waits, and for how often."""

    start_ms: int = 30_000
    #: Pause before the first restart; it doubles with each death inside the window.
    restart_ms: int = 500
    #: Deaths of one service inside `window_ms` that are forgiven.
    restarts: int = 5
    window_ms: int = 60_000
    #: Beyond a service's own drain.
    stop_ms: int = 5_000


class Reporter(Protocol):
    """Who is told what happens meanwhile."""

    def starting(self, names: list[str]) -> None:
        """Say that these are not ready yet; called many times."""

    def died(self, what: str, lines: list[str]) -> None:
        """Say that a service died, with the last lines of its log."""

    def changed(self) -> None:
        """Say that the set of processes is another one."""


@dataclass
class Site:
    """One machine's services.

    Args:
        layout: what runs, and where.
        report: is told of progress and deaths.
        patience: deadlines and bounds.
    """

    layout: Layout
    report: Reporter
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self._pending: list[str] = []
        self._starts = self.layout.starts()

    async def start(self) -> None:
        """Start every service: control and the edge at once where the ports are known, else one after the other.

        Raises:
            StartError: one of them did not come up; the others were ended.
        """
        self.layout.write()
        self._pending = list(self._starts)
        known = all(port for _, port in ports(self.layout.plan))
        together = [name for name in self._starts if known and name != self.layout.simulator]
        for name in self._starts:
            if name not in together:
                # Control's first probe should find it, so the simulator is always waited for.
                await self._start(name)
                self.layout.write()
        try:
            async with asyncio.TaskGroup() as group:
                for name in together:
                    group.create_task(self._start(name))
        except* StartError as errors:
            raise errors.exceptions[0] from None

    async def keep(self) -> None:
        """Restart what dies, until something dies too often.

        Raises:
            GaveUpError: which service, and how it ended.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._starts:
                    group.create_task(self._keep(name))
        except* GaveUpError as errors:
            raise errors.exceptions[0] from None

    async def stop(self) -> None:
        """End all children: the edge first, so that its streams can finish."""
        edge = self.layout.plan.edge
        drains = {EDGE: edge.settle_ms + edge.drain_ms}
        for name in reversed(self._starts):
            if name in self.layout.children:
                await self.layout.children[name].stop(drains.get(name, 0) + self.patience.stop_ms)

    def reload(self, plan: Configuration) -> list[str]:
        """Put another plan into force: control takes its backends, the edge's workers are replaced.

        Returns:
            What has changed and cannot be taken without a restart.
        """
        left = self.layout.take(plan)
        for name in (CONTROL, EDGE) if self.layout.plan.edge.workers else (CONTROL,):
            self.layout.children[name].hangup()
        return left

    def interrupt(self) -> None:
        """Make every child that still runs cut its work."""
        for child in self.layout.children.values():
            if child.process.returncode is None:
                child.interrupt()

    async def _start(self, name: str) -> None:
        def working() -> None:
            self.report.starting(self._pending)

        self.layout.children[name] = await Child.start(
            name, self._starts[name](), folder=self.layout.folder, start_ms=self.patience.start_ms, working=working
        )
        if name in self._pending:
            self._pending.remove(name)

    async def _keep(self, name: str) -> None:
        deaths: deque[float] = deque()
        while True:
            child = self.layout.children[name]
            status = await child.process.wait()
            await child.stop(0)
            self.report.died(f"{name} {ending(status)}", child.log.tail())
            await self._restart(name, deaths)
            self.report.changed()

    async def _restart(self, name: str, deaths: deque[float]) -> None:
        patience = self.patience
        while True:
            now = time.monotonic()
            deaths.append(now)
            while deaths[0] < now - patience.window_ms / 1000:
                deaths.popleft()
            if len(deaths) > patience.restarts:
                raise GaveUpError(f"{name} died {len(deaths)} times in {patience.window_ms // 1000} s")
            await asyncio.sleep(patience.restart_ms / 1000 * 2 ** (len(deaths) - 1))
            try:
                await self._start(name)
            except StartError as error:
                self.report.died(str(error), error.lines)
            else:
                return
