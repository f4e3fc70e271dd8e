"""Several edge workers behind one address: started, kept alive, and replaced one by one without a connection lost.

The supervisor holds the listening sockets, one set for each worker, and every life of a worker inherits its own. What
waits in a socket's backlog therefore outlives the worker that was to accept it; on a reload the successor accepts
before its predecessor drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launch.child import ending
from launch.worker import Life, Slot, StartError, terminate
from streamkit.ops import log, server
from streamkit.ops.listener import BindError, reserved
from streamkit.ops.settings import SettingsError
from streamkit.ops.signals import handled

__all__ = ["Fleet", "FleetPlan", "supervise"]

_LOG = logging.getLogger("headrace.workers")
#: Pause before a restart; it doubles with each death inside the window.
_RESTART_S: Final = 0.2
_RESTARTS: Final = 5
_WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """What a supervisor runs."""

    #: `headrace edge` and its options, without what differs from worker to worker.
    arguments: tuple[str, ...]
    workers: int
    host: str
    ops_host: str
    port: int
    #: Worker `i` has its ops port at this + `i`; 0 = free ones.
    ops_port: int
    #: Raises `SettingsError` if the configuration, as it is now, could not be started.
    check: Callable[[], object]
    ready_file: str | None = None


def supervise(plan: FleetPlan) -> int:
    """Run a fleet until a signal ends it, and return the exit status.

    0 = stopped as asked; 1 = a worker did not start, or died too often; 2 = an address is taken.
    SIGHUP replaces the workers one by one, with the configuration as it is then.
    """
    log.configure("edge")
    return server.run(lambda: _supervise(plan))


async def _supervise(plan: FleetPlan) -> int:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-edge-")))
        try:
            public = stack.enter_context(reserved(plan.host, plan.port, plan.workers))
            ops = [
                stack.enter_context(reserved(plan.ops_host, plan.ops_port and plan.ops_port + number, 1))[0]
                for number in range(plan.workers)
            ]
        except BindError as error:
            print(f"edge: {error}", file=sys.stderr)
            return server.EXIT_ADDRESS
        slots = [Slot(number, public[number], ops[number]) for number in range(plan.workers)]
        fleet = Fleet(plan, slots, folder)
        with handled({signal.SIGTERM: fleet.stop, signal.SIGINT: fleet.stop, signal.SIGHUP: fleet.reload}):
            return await fleet.run()


class Fleet:
    """The workers of one edge. Made by `supervise`."""

    def __init__(self, plan: FleetPlan, slots: Sequence[Slot], folder: Path) -> None:
        self._plan = plan
        self._slots = slots
        self._folder = folder
        self._lives = 0
        self._over = asyncio.Event()
        self._reload = asyncio.Event()
        self._replacing = asyncio.Lock()
        self._watching: set[asyncio.Task[None]] = set()
        #: Why the fleet ends by itself.
        self._reason: str | None = None

    def stop(self) -> None:
        """Take SIGTERM or SIGINT: the first lets every worker drain, each further one is handed on."""
        self._over.set()
        for process in self._processes():
            terminate(process)

    def reload(self) -> None:
        """Take SIGHUP: replace the workers, unless the configuration has become unusable."""
        self._reload.set()

    async def run(self) -> int:
        """Start all, keep them, and return the exit status."""
        status = server.EXIT_OK
        reloads = asyncio.create_task(self._reloads(), name="reloads")
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(self._begin(slot))
            self._tell()
            log.event(_LOG, "workers.ready", workers=len(self._slots), url=self._url())
            await self._over.wait()
        except* StartError as errors:
            self._give_up(str(errors.exceptions[0]))
        finally:
            if self._reason is not None:
                log.event(_LOG, "workers.gave_up", level=logging.ERROR, reason=self._reason)
                status = server.EXIT_FAILED
            reloads.cancel()
            await asyncio.gather(reloads, return_exceptions=True)
            await self._end()
        return status

    # One worker

    async def _begin(self, slot: Slot) -> None:
        """Start a life in `slot`, and watch it.

        Raises:
            StartError: it did not serve in time.
        """
        self._lives += 1
        ready_file = self._folder / f"{slot.number}-{self._lives}.json"
        life = await slot.start(self._plan.arguments, ready_file, given_up=self._over.is_set)
        self._watching.add(watching := asyncio.create_task(self._watch(slot, life), name=f"worker {slot.number}"))
        watching.add_done_callback(self._watching.discard)

    def _give_up(self, reason: str) -> None:
        if not self._over.is_set():
            self._reason = reason
            self._over.set()

    async def _watch(self, slot: Slot, life: Life) -> None:
        """Wait for the end of a life; one that was not asked to end is replaced."""
        status = await life.process.wait()
        slot.draining.discard(life.process)
        if life is slot.life and not self._over.is_set():
            # The connections that wait in its socket wait for the next one.
            log.event(_LOG, "worker.died", level=logging.ERROR, worker=slot.number, how=ending(status))
            await self._revive(slot, life)

    async def _revive(self, slot: Slot, lost: Life) -> None:
        while True:
            now = time.monotonic()
            slot.deaths.append(now)
            while slot.deaths[0] < now - _WINDOW_S:
                slot.deaths.popleft()
            if len(slot.deaths) > _RESTARTS:
                self._give_up(f"worker {slot.number} died {len(slot.deaths)} times in {_WINDOW_S:g} s")
            if self._over.is_set():
                return
            await asyncio.sleep(_RESTART_S * 2 ** (len(slot.deaths) - 1))
            with contextlib.suppress(StartError):  # counted as one more death
                async with self._replacing:
                    if slot.life is lost:  # a reload may have been quicker
                        await self._begin(slot)
                        self._tell()
                return

    # All of them

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            try:
                self._plan.check()
            except SettingsError as error:
                log.event(_LOG, "workers.reload_refused", level=logging.ERROR, reason=str(error))
                continue
            await self._roll()

    async def _roll(self) -> None:
        """Replace every worker: the next life serves before the one before it drains."""
        log.event(_LOG, "workers.reload", workers=len(self._slots))
        for slot in self._slots:
            before = slot.life
            try:
                async with self._replacing:
                    await self._begin(slot)
            except StartError as error:
                log.event(_LOG, "workers.reload_stopped", level=logging.ERROR, reason=str(error))
                return
            if before is not None and before.process.returncode is None:
                slot.draining.add(before.process)
                terminate(before.process)
            self._tell()
        log.event(_LOG, "workers.reloaded", workers=len(self._slots))

    async def _end(self) -> None:
        """Drain what still runs, and wait for it: each worker has a deadline of its own."""
        for slot in self._slots:
            for sock in (*slot.public, *slot.ops):
                sock.close()
        if self._reason is not None or not self._over.is_set():
            self.stop()
        await asyncio.gather(*(process.wait() for process in self._processes()))
        await asyncio.gather(*self._watching)
        if self._plan.ready_file is not None:
            Path(self._plan.ready_file).unlink(missing_ok=True)  # noqa: ASYNC240  nothing else runs any more

    def _processes(self) -> list[asyncio.subprocess.Process]:
        lives = [slot.life.process for slot in self._slots if slot.life is not None]
        return [*lives, *(process for slot in self._slots for process in slot.draining)]

    def _url(self) -> str:
        life = self._slots[0].life
        return str(life.ready["url"]) if life is not None else ""

    def _tell(self) -> None:
        """Write the ready file anew: process ids change with a restart."""
        if self._plan.ready_file is None:
            return
        workers = [
            {"worker": slot.number, "pid": slot.life.ready["pid"], "ops_url": slot.life.ready["ops_url"]}
            for slot in self._slots
            if slot.life is not None
        ]
        members = {
            "name": "edge",
            "url": self._url(),
            "ops_url": workers[0]["ops_url"],
            "pid": os.getpid(),
            "kind": "edge",
            "workers": workers,
        }
        server.write_ready_file(self._plan.ready_file, members)
