"""Looking at the backends of this host: their adapters' words and their measured memory become pressure.

One task looks at each backend, and does nothing else; a slow engine delays nobody's look but its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from core_gpu.arbiter.adapters.contract import Adapter, Busy, ModelState
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.arbiter.shedding import Look, Shedder
from core_gpu.arbiter.watchdog import Verdict, Watchdog
from core_gpu.modes.settings import Budget
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.ops.exposure import is_loopback
from streamkit.wire.backend import Backend
from streamkit.wire.state import Ailing, Pressure

__all__ = ["Monitor", "Watched", "ours"]

_log = logging.getLogger(__name__)
_RESTART_S: Final = 120.0
Tell = Callable[[str, Mapping[str, object]], None]


def ours(backends: Sequence[Backend], budgets: Sequence[Budget]) -> list[tuple[Backend, Budget | None]]:
    """Return this host's backends with their budgets: those on loopback, and those that a budget is named for."""
    by_name = {budget.name: budget for budget in budgets}
    return [
        (backend, by_name.get(backend.name))
        for backend in backends
        if backend.name in by_name or is_loopback(urlsplit(backend.url).hostname or "")
    ]


@dataclass(slots=True)
class Watched:
    """One backend under watch.

    Args:
        backend: as configured.
        budget: its part of a GPU; None = none was given.
        adapter: speaks to its engine.
        measure: what its processes hold in MiB; None = nobody can say.
    """

    backend: Backend
    budget: Budget | None
    adapter: Adapter
    measure: Callable[[], int | None]
    shedder: Shedder = field(init=False)
    watchdog: Watchdog | None = field(init=False)
    models: Mapping[str, ModelState] = field(default_factory=dict)
    looked: bool = False
    #: What its engine last said of its work; None = nothing, or it does not answer.
    busy: Busy | None = None
    overruns: int = 0
    #: Times that its engine was asked for room, and those that measurement confirmed.
    rooms: int = 0
    rooms_confirmed: int = 0
    restarts: int = 0
    restarted_s: float | None = None
    #: Room that is being made now; one request for it at a time.
    making: asyncio.Task[None] | None = None

    @property
    def at_a_time(self) -> int:
        """Requests that it serves at a time."""
        return self.budget.parallel if self.budget is not None else self.backend.max_inflight


class Monitor:
    """All backends of this host.

    Args:
        watched: they.
        settings: marks and times.
        frozen: says whether a start-up barrier is up on a GPU; then nobody there is asked for room.
        tell: told of changes, as an event and its fields.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        settings: ArbiterSettings,
        *,
        frozen: Callable[[int], bool] = lambda _gpu: False,
        tell: Tell = lambda _name, _fields: None,
        clock: Clock = MONOTONIC,
    ) -> None:
        self.watched = {one.backend.name: one for one in watched}
        #: Called after a pressure has changed.
        self.on_change: Callable[[], None] = lambda: None
        self.settings = settings
        self.clock = clock
        self._frozen = frozen
        self._tell = tell
        for one in watched:
            one.shedder = Shedder(settings.shed_rule(), clock())
            one.watchdog = None
            if one.budget is not None:
                one.watchdog = Watchdog(
                    one.budget.budget_mb,
                    settings.overrun_margin_mb,
                    settings.overrun_ms / 1000,
                    settings.make_room_ms / 1000,
                )

    def pressure(self) -> dict[str, Pressure]:
        """Return the pressure of those that were looked at."""
        return {name: one.shedder.pressure for name, one in self.watched.items() if one.looked}

    async def run(self) -> None:
        """Look at all of them for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                for one in self.watched.values():
                    group.create_task(self._watch(one), name=f"look at {one.backend.name}")
        finally:
            making = [one.making for one in self.watched.values() if one.making is not None]
            for task in making:
                task.cancel()
            await asyncio.gather(*making, return_exceptions=True)

    async def _watch(self, one: Watched) -> None:
        while True:
            try:
                await self.look(one)
            except Exception:  # noqa: BLE001 - a look's outermost frame: one bug must not end the watch
                _log.exception("look.failed", extra={"backend": one.backend.name})
            await asyncio.sleep(self.settings.look_ms / 1000)

    def frozen(self, one: Watched) -> bool:
        """Say whether an engine is starting on a backend's GPU: then nobody there is asked for room."""
        return one.budget is not None and self._frozen(one.budget.gpu)

    async def look(self, one: Watched) -> None:
        """Look once at one backend, and do what follows from it."""
        status = await one.adapter.status()
        busy = one.busy = await one.adapter.busy() if status.alive else None
        load: float | None = None
        if busy is not None and busy.running is not None:
            load = (busy.running + (busy.waiting or 0)) / one.at_a_time
            if busy.stalled:
                # It takes requests and makes nothing of them: its figures count as full.
                load = max(load, self.settings.shed_at)
        moved = one.models != status.models
        one.models = status.models
        verdict = self._judge(one)
        first, one.looked = not one.looked, True
        before = one.shedder.pressure
        look = Look(alive=status.alive, load=load, over_budget=verdict.sheds)
        if one.shedder.see(look, self.clock()):
            self.say(one, "pressure", before=before, now=one.shedder.pressure, load=load, detail=status.detail)
            self.on_change()
        elif first or moved:
            self.on_change()

    def make_room(self, name: str, mb: int) -> bool:
        """Have a backend's engine let go of memory, in the background; False = there is nobody to ask.

        Whether it did is for the measurement to say: a lease's memory counts as taken until then.
        """
        one = self.watched.get(name)
        if one is None:
            return False
        self._begin(one, self._make_room(one, mb, one.measure() or 0))
        return True

    def ailing(self, sick: Ailing) -> None:
        """Hear that a backend is sick for its users; the operator's own command is run where the budget says so."""
        one = self.watched.get(sick.backend)
        if one is None:
            return
        why = ""
        since_s = None if one.restarted_s is None else self.clock() - one.restarted_s
        if one.budget is None or one.budget.on_sick != "restart":
            why = 'no budget of it says on_sick = "restart"'
        elif since_s is not None and since_s < self.settings.restart_pause_ms / 1000:
            why = f"it was restarted {since_s:.0f} s ago (restart_pause_ms)"
        elif self.frozen(one):
            why = "an engine is starting on that GPU"
        self.say(one, "ailing", why=sick.why, left_alone=why or None)
        if not why and one.budget is not None:
            self._begin(one, self._restart(one, one.budget))

    def _judge(self, one: Watched) -> Verdict:
        if one.watchdog is None or one.budget is None:
            return Verdict.WITHIN
        used_mb = one.measure()
        verdict = one.watchdog.see(used_mb, self.clock())
        if verdict is Verdict.CAUGHT:
            one.overruns += 1
            self.say(one, "overrun", used_mb=used_mb, budget_mb=one.budget.budget_mb)
        elif verdict is Verdict.BACK:
            self.say(one, "overrun.ended", used_mb=used_mb, budget_mb=one.budget.budget_mb)
        elif verdict is Verdict.STUBBORN and one.budget.on_overrun == "restart":
            self._begin(one, self._restart(one, one.budget))
        if verdict is Verdict.CAUGHT and used_mb is not None:
            self._begin(one, self._make_room(one, used_mb - one.budget.budget_mb, used_mb))
        return verdict

    def _begin(self, one: Watched, work: Coroutine[None, None, None]) -> None:
        """Start `work` on an engine's memory; what was going on there is called off."""
        if one.making is not None:
            one.making.cancel()
        one.making = asyncio.create_task(work, name=f"room at {one.backend.name}")
        one.making.add_done_callback(_report)

    async def _make_room(self, one: Watched, mb: int, before_mb: int) -> None:
        if self.frozen(one):
            self.say(one, "room", asked=(), why="an engine is starting on that GPU", freed_mb=0, wanted_mb=mb)
            return
        room = await one.adapter.make_room(mb)
        freed_mb = 0
        one.rooms += bool(room.asked)
        if room.asked:
            freed_mb = await one.adapter.confirm_released(
                mb, before_mb=before_mb, within_s=self.settings.make_room_ms / 1000
            )
        one.rooms_confirmed += freed_mb >= mb
        self.say(one, "room", asked=room.asked, why=room.why, freed_mb=freed_mb, wanted_mb=mb)

    async def _restart(self, one: Watched, budget: Budget) -> None:
        """Run the operator's own command; no process is ended in any other way."""
        one.restarts += 1
        one.restarted_s = self.clock()
        self.say(one, "restart", command=budget.restart[0])
        try:
            process = await asyncio.create_subprocess_exec(
                *budget.restart, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            self.say(one, "restart.failed", why=str(error))
            return
        try:
            async with asyncio.timeout(_RESTART_S):
                status = await process.wait()
        except TimeoutError:
            self.say(one, "restart.failed", why=f"no end within {_RESTART_S:g} s")
            return
        self.say(one, "restart.ended" if status == 0 else "restart.failed", status=status)

    def say(self, one: Watched, what: str, **fields: object) -> None:
        """Log and tell what happened to a backend."""
        log.event(_log, f"backend.{what}", level=logging.WARNING, backend=one.backend.name, **fields)
        self._tell(f"backend.{what}", {"backend": one.backend.name, **fields})


def _report(task: asyncio.Task[None]) -> None:
    """A task's outermost frame: a bug in it is logged, and ends nothing else."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("room.failed", exc_info=error)
