"""Models that are asked for and not resident: room is made, measured, and then the engine loads them.

One load a backend at a time, however many ask. The request itself waits at the engine, which queues what
comes while it sleeps or loads; where there is no memory for the model, control answers 503 with a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from core_gpu.arbiter.adapters.contract import AdapterError, ModelState
from core_gpu.arbiter.monitor import Monitor, Watched
from streamkit.wire.state import Residence, Want

__all__ = ["ColdModels"]

_log = logging.getLogger(__name__)
#: Engines that load a model while they run.
_LOADS: Final = ("vllm", "ollama")
_LOAD_S: Final = 120.0


class ColdModels:
    """Loads what is wanted.

    Args:
        monitor: the backends, as last seen.
        free_mb: returns what is free of a GPU as measured, in MiB; None = nobody knows.
    """

    def __init__(self, monitor: Monitor, free_mb: Callable[[int], int | None]) -> None:
        self.loads = 0
        self._monitor = monitor
        self._free_mb = free_mb
        self._loading: dict[str, asyncio.Task[None]] = {}
        #: When a backend was last loaded by us: it is not emptied again at once.
        self._loaded_s: dict[str, float] = {}

    def residences(self) -> dict[str, dict[str, Residence]]:
        """Return where the models of each engine are that loads them."""
        found: dict[str, dict[str, Residence]] = {}
        for name, one in self._monitor.watched.items():
            if one.looked and one.backend.engine in _LOADS:
                cold: Residence = "no_room" if self._lacks_mb(one) else "cold"
                words: dict[ModelState, Residence] = {
                    ModelState.RESIDENT: "resident", ModelState.LOADING: "loading", ModelState.COLD: cold,
                }  # fmt: skip
                found[name] = {model: words[state] for model, state in one.models.items()}
        return found

    def want(self, want: Want) -> None:
        """Have a model loaded, unless its backend is at that already, or has it."""
        one = self._monitor.watched.get(want.backend)
        if one is None or one.backend.engine not in _LOADS or want.backend in self._loading:
            return
        if one.models.get(want.model) is not ModelState.COLD:
            return
        task = asyncio.create_task(self._load(one, want.model), name=f"load {want.model}")
        self._loading[want.backend] = task
        task.add_done_callback(lambda task: self._over(want.backend, task))

    async def close(self) -> None:
        """Give up what is being loaded."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, one: Watched, model: str) -> None:
        monitor = self._monitor
        if monitor.frozen(one):
            return
        if not await self._room(one):
            monitor.say(one, "load.no_room", model=model, lacks_mb=self._lacks_mb(one))
            return
        try:
            await one.adapter.load(model, within_s=_LOAD_S)
        except AdapterError as error:
            monitor.say(one, "load.failed", model=model, why=str(error))
            return
        self.loads += 1
        self._loaded_s[one.backend.name] = monitor.clock()
        monitor.say(one, "loaded", model=model)
        await monitor.look(one)

    async def _room(self, one: Watched) -> bool:
        """Ask its neighbours on the GPU for what it lacks, one after the other; only measured memory counts."""
        monitor = self._monitor
        for other in monitor.watched.values():
            lacks_mb = self._lacks_mb(one)
            if not lacks_mb:
                return True
            if not self._may_ask(other, one):
                continue
            before_mb = other.measure()
            room = await other.adapter.make_room(lacks_mb)
            if room.asked and before_mb is not None:
                within_s = monitor.settings.make_room_ms / 1000
                freed_mb = await other.adapter.confirm_released(lacks_mb, before_mb=before_mb, within_s=within_s)
                monitor.say(other, "room", asked=room.asked, why=room.why, freed_mb=freed_mb, wanted_mb=lacks_mb)
        return not self._lacks_mb(one)

    def _may_ask(self, other: Watched, one: Watched) -> bool:
        if other is one or other.budget is None or one.budget is None or other.budget.gpu != one.budget.gpu:
            return False
        loaded_s = self._loaded_s.get(other.backend.name)
        least_s = self._monitor.settings.min_residency_ms / 1000
        return loaded_s is None or self._monitor.clock() - loaded_s >= least_s

    def _lacks_mb(self, one: Watched) -> int:
        """Return what is missing for a backend to fill its budget; 0 where nothing is measured or budgeted."""
        if one.budget is None or (free_mb := self._free_mb(one.budget.gpu)) is None:
            return 0
        return max(0, one.budget.budget_mb - (one.measure() or 0) - free_mb)

    def _over(self, name: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("load.failed", exc_info=error)
