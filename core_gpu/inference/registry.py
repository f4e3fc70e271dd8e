"""The loaded models: loaded on demand under a lease, used by many at a time, evicted when there is no room.

    absent ──use──▶ loading ──▶ loaded ──evict · idle · unload · lease lost──▶ absent

A model in use is never taken away; whoever needs its room waits until it is free, up to a deadline. A model's charge
is taken before its load begins and given back when its session is gone, so loads at a time cannot overdraw.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from core_gpu.inference.catalogue import Catalogue
from core_gpu.inference.evict import Assignment, victim
from core_gpu.inference.leases import Leases
from core_gpu.inference.loaded import Device, Loaded, Record
from core_gpu.inference.runner import Runner
from core_gpu.inference.settings import InferenceSettings
from streamkit.flow.clock import MONOTONIC, Clock
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Registry"]

_log = logging.getLogger(__name__)


class Registry:
    """All models of one server; used on its event loop.

    Args:
        settings: bounds and policies.
        catalogue: which models there are.
        leases: who lends memory.
        clock: monotonic.
    """

    def __init__(
        self, settings: InferenceSettings, catalogue: Catalogue, leases: Leases, *, clock: Clock = MONOTONIC
    ) -> None:
        self.catalogue = catalogue
        self.devices = [Device(at, settings.memory_mb_per_gpu) for at in range(settings.gpus)]
        self.loaded: dict[str, Loaded] = {}
        self.records: dict[str, Record] = {}
        #: Pinned by a call, until they are unloaded.
        self.pins: set[str] = set()
        self._settings = settings
        self._leases = leases
        self._clock = clock
        self._assignment = Assignment(settings.assignment)
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        # One load at a time: two that need the last room must not wait for each other.
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Loaded]:
        """Keep a model loaded for the length of the block, loading it first if need be.

        Raises:
            HeadraceError: it is unknown, cannot be loaded, or there is no room.
        """
        found = await self.load(name, hold=True)
        try:
            yield found
        finally:
            found.using -= 1
            found.record.used_s = self._clock()
            if not found.using:
                self._pulse()
                if found.leaving:
                    await self._evict(found)

    async def load(self, name: str, *, gpu: int | None = None, hold: bool = False) -> Loaded:
        """Return a model, loaded now if it is not.

        Args:
            name: as requests call it.
            gpu: where to, if it is not loaded yet.
            hold: count the caller as a user from the moment it is there.

        Raises:
            HeadraceError: as of `use`.
        """
        while True:
            found = self.loaded.get(name)
            if found is None or found.leaving:
                self.catalogue.entry(name)
                task = self._loading.get(name)
                if task is None:
                    task = asyncio.create_task(self._load(name, gpu), name=f"load {name}")
                    self._loading[name] = task
                    task.add_done_callback(lambda done: self._load_ended(name, done))
                # A caller that leaves does not end the load for the others.
                found = await asyncio.shield(task)
            if self.loaded.get(name) is found:
                found.using += hold
                return found

    async def unload(self, name: str) -> bool:
        """Unload a model, after those who have it are done; False = it was not loaded."""
        self.catalogue.entry(name)
        self.pins.discard(name)
        found = self.loaded.get(name)
        if found is None:
            return False
        await self._leave(found)
        return True

    async def sweep(self) -> None:
        """Unload what nobody used for the idle timeout."""
        if not self._settings.idle_timeout_ms:
            return
        before = self._clock() - self._settings.idle_timeout_ms / 1000
        for found in self._candidates(None):
            if found.used_s < before and not found.using:
                log.event(_log, "inference.idle", model=found.runner.name)
                await self._evict(found)

    async def close(self) -> None:
        """Unload everything; nobody uses anything any more."""
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), *self._leaving, return_exceptions=True)
        for found in list(self.loaded.values()):
            await self._evict(found)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._leases.close()

    def pinned(self, name: str) -> bool:
        """Say whether a model is never evicted."""
        return name in self.pins or self.catalogue.entry(name).pin

    def record(self, name: str) -> Record:
        """Return what is remembered of a model that the catalogue knows."""
        return self.records.setdefault(name, Record(name, used_s=self._clock()))

    def _load_ended(self, name: str, task: asyncio.Task[Loaded]) -> None:
        self._loading.pop(name, None)
        if not task.cancelled():
            # Its callers may all have left; nobody else asks for it.
            task.exception()

    async def _load(self, name: str, gpu: int | None) -> Loaded:
        begun = time.perf_counter()
        async with self._turn:
            file = await asyncio.to_thread(self.catalogue.file, name)
            mb = self.catalogue.charge_mb(name, file)
            device = await self._room(name, self._wanted(name, gpu), mb)
            device.used_mb += mb
            device.models += 1
        try:
            found = await self._opened(name, file, device, mb)
        except BaseException:
            self._give_back(device, mb)
            raise
        found.load_s = time.perf_counter() - begun
        self.loaded[name] = found
        found.record.loads += 1
        found.record.used_s = self._clock()
        log.event(_log, "inference.loaded", model=name, gpu=device.index, mb=mb, ms=round(found.load_s * 1000))
        return found

    async def _opened(self, name: str, file: Path, device: Device, mb: int) -> Loaded:
        def lost(why: str) -> None:
            held = self.loaded.get(name)
            if held is not None:
                log.event(_log, "inference.lease_lost", level=logging.WARNING, model=name, why=why)
                self._tracked(self._leave(held), f"leave {name}")

        lease = await self._leases.acquire(name, device.index, mb, lost)
        try:
            runner = await asyncio.to_thread(Runner, name, file, lease, self._settings)
        except BaseException:
            await lease.release()
            raise
        record = self.record(name)
        record.shape = runner.shape
        return Loaded(runner, device, mb, lease, record, 0.0)

    def _wanted(self, name: str, gpu: int | None) -> Device | None:
        wanted = self.catalogue.entry(name).preferred_gpu if gpu is None else gpu
        if 0 <= wanted < len(self.devices):
            return self.devices[wanted]
        if len(self.devices) == 1:
            return self.devices[0]
        return None

    async def _room(self, name: str, wanted: Device | None, mb: int) -> Device:
        """Return a device with room for `mb`, evicting what nobody uses, waiting for what somebody does."""
        settings = self._settings
        most = min(settings.memory_mb_per_gpu, settings.max_memory_mb)
        if mb > most:
            raise HeadraceError(
                Code.OUT_OF_MEMORY, f"model {name} needs {mb} MiB, and at most {most} MiB are for models on a GPU",
                param="model_id",
            )  # fmt: skip
        if wanted is None:
            wanted = self.devices[self._assignment.choose([device.used_mb for device in self.devices])]
        until = self._clock() + settings.load_wait_ms / 1000
        while True:
            crowded = wanted.used_mb + mb > wanted.total_mb
            full = (
                sum(device.models for device in self.devices) >= settings.max_models
                or sum(device.used_mb for device in self.devices) + mb > settings.max_memory_mb
            )
            if not crowded and not full:
                return wanted
            free = [one for one in self._candidates(wanted if crowded else None) if not one.using]
            going = victim(settings.eviction, free)
            if going is not None:
                going.record.evictions += 1
                log.event(_log, "inference.evict", model=going.runner.name, gpu=going.device.index, room_for=name)
                await self._evict(going)
                continue
            left = until - self._clock()
            freed = self._freed
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await freed.wait()
            except TimeoutError:
                raise HeadraceError(
                    Code.SATURATED, f"no room for model {name}: every loaded model is in use or pinned"
                ) from None

    def _candidates(self, device: Device | None) -> list[Loaded]:
        return [
            found
            for found in self.loaded.values()
            if (device is None or found.device is device) and not found.leaving and not self.pinned(found.runner.name)
        ]

    async def _leave(self, found: Loaded) -> None:
        found.leaving = True
        if not found.using:
            await self._evict(found)

    async def _evict(self, found: Loaded) -> None:
        """Drop a model that nobody has; once more does nothing."""
        name = found.runner.name
        if self.loaded.get(name) is not found:
            return
        del self.loaded[name]
        # A caller that is cut off in the middle must not keep the memory.
        await asyncio.shield(self._tracked(self._dropped(found), f"drop {name}"))

    async def _dropped(self, found: Loaded) -> None:
        await asyncio.to_thread(found.runner.close)
        await found.lease.release()
        self._give_back(found.device, found.mb)

    def _tracked(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` to its end, whoever waits for it."""
        task = asyncio.create_task(work, name=name)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    def _give_back(self, device: Device, mb: int) -> None:
        device.used_mb -= mb
        device.models -= 1
        self._pulse()

    def _pulse(self) -> None:
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()
