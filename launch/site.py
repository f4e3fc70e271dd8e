"""The services of one machine as children of one process: started in order, kept alive, ended in order."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from launch import config
from launch.child import Child, StartError, ending
from launch.config import Configuration
from streamkit.wire.backend import Backend

__all__ = ["GaveUpError", "Patience", "Reporter", "Site"]

CONTROL: Final = "control"
EDGE: Final = "edge"


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
        plan: what to run; port 0 takes a free one.
        folder: for the effective configuration, logs and ready files.
        report: is told of progress and deaths.
        patience: deadlines and bounds.
    """

    plan: Configuration
    folder: Path
    report: Reporter
    patience: Patience = field(default_factory=Patience)
    #: By name, in the order in which they were asked for.
    children: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pending: list[str] = []
        self._starts = self._planned()

    @property
    def file(self) -> Path:
        """The effective configuration, as the children read it."""
        return self.folder / "headrace.toml"

    @property
    def simulator(self) -> str | None:
        """The simulator's name, if there is one."""
        return self.plan.simulator.name if self.plan.simulator else None

    def backends(self) -> tuple[Backend, ...]:
        """The plan's backends, and the simulator once its address is known."""
        simulator = self.plan.simulator
        url = None if simulator is None else self._url(simulator.name, simulator.host, simulator.port)
        if simulator is None or url is None:
            return self.plan.backends
        own = Backend(name=simulator.name, engine=simulator.engine, url=url, simulated=True)
        return (*self.plan.backends, own)

    async def start(self) -> None:
        """Start every service: control and the edge at once where the ports are known, else one after the other.

        Raises:
            StartError: one of them did not come up; the others were ended.
        """
        self._write()
        self._pending = list(self._starts)
        known = all(port for _, port in config.ports(self.plan))
        together = [name for name in self._starts if known and name != self.simulator]
        for name in self._starts:
            if name not in together:
                # Control's first probe should find it, so the simulator is always waited for.
                await self._start(name)
                self._write()
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
        drains = {EDGE: self.plan.edge.settle_ms + self.plan.edge.drain_ms}
        for name in reversed(self._starts):
            if name in self.children:
                await self.children[name].stop(drains.get(name, 0) + self.patience.stop_ms)

    def interrupt(self) -> None:
        """Make every child that still runs cut its work."""
        for child in self.children.values():
            if child.process.returncode is None:
                child.interrupt()

    async def _start(self, name: str) -> None:
        def working() -> None:
            self.report.starting(self._pending)

        self.children[name] = await Child.start(
            name, self._starts[name](), folder=self.folder, start_ms=self.patience.start_ms, working=working
        )
        if name in self._pending:
            self._pending.remove(name)

    async def _keep(self, name: str) -> None:
        deaths: deque[float] = deque()
        while True:
            child = self.children[name]
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

    def _planned(self) -> dict[str, Callable[[], list[str]]]:
        planned: dict[str, Callable[[], list[str]]] = {}
        if self.simulator is not None:
            planned[self.simulator] = lambda: self._arguments("simulate", str(self.simulator), ops=False)
        planned[CONTROL] = lambda: self._arguments("control", CONTROL)
        planned[EDGE] = lambda: [
            *self._arguments("edge", EDGE),
            "--control-url",
            str(self._url(CONTROL, self.plan.control.host, self.plan.control.port)),
        ]
        return planned

    def _arguments(self, command: str, name: str, *, ops: bool = True) -> list[str]:
        """Return a service's command line; a next life takes the ports of the one before."""
        arguments = [command, "--config", str(self.file)]
        if name in self.children:
            ready = self.children[name].ready
            arguments += ["--port", _port(ready["url"])]
            if ops:
                arguments += ["--ops-port", _port(ready["ops_url"])]
        return arguments

    def _url(self, name: str, host: str, port: int) -> str | None:
        """Return where a service answers, or will; None = not known yet."""
        if name in self.children:
            return str(self.children[name].ready["url"])
        place = f"[{host}]" if ":" in host else host
        return f"http://{place}:{port}" if port else None

    def _write(self) -> None:
        found = dataclasses.replace(self.plan, backends=self.backends())
        self.file.write_text(found.document("Written by `headrace up`: what runs here."), encoding="utf-8")


def _port(url: str) -> str:
    return url.rsplit(":", 1)[-1].rstrip("/")
