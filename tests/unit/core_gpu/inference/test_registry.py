"""The registry on real sessions: who is loaded where, who goes, and that everything comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core_gpu.inference.catalogue import Catalogue
from core_gpu.inference.evict import Assignment
from core_gpu.inference.leases import LocalLeases
from core_gpu.inference.reference.cache import reference
from core_gpu.inference.registry import Registry
from core_gpu.inference.settings import InferenceSettings, ModelSettings
from streamkit.flow.clock import ManualClock
from streamkit.wire.errors import Code, HeadraceError

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return reference("mouth", tmp_path_factory.mktemp("models"))


class Rig:
    def __init__(self, file: Path, names: int, *, models: dict | None = None, **fields):
        given = {f"m{at}": ModelSettings(model_path=str(file), memory_mb=10) for at in range(names)} | (models or {})
        self.settings = InferenceSettings(models=given, **fields)
        self.leases = LocalLeases(self.settings.memory_mb_per_gpu, self.settings.gpus)
        self.clock = ManualClock(100.0)
        self.registry = Registry(self.settings, Catalogue(self.settings), self.leases, clock=self.clock)

    async def use(self, *names: str) -> None:
        for name in names:
            self.clock.advance(1)
            async with self.registry.use(name) as loaded:
                loaded.record.requests += 1

    @property
    def loaded(self) -> list[str]:
        return sorted(self.registry.loaded)

    async def close(self) -> None:
        await self.registry.close()
        assert self.leases.lent_mb == [0] * self.settings.gpus
        assert [(device.used_mb, device.models) for device in self.registry.devices] == [(0, 0)] * self.settings.gpus


@pytest.mark.slow
async def test_twelve_hundred_models_go_through_a_server_with_room_for_forty(small):
    rig = Rig(small, 1_200, gpus=4, max_models=40)
    most = 0
    for name in rig.settings.models:
        await rig.use(name)
        most = max(most, len(rig.loaded))
    assert most == 40
    assert sum(record.loads for record in rig.registry.records.values()) == 1_200
    assert sum(record.evictions for record in rig.registry.records.values()) == 1_160
    assert [device.models for device in rig.registry.devices] == [10] * 4
    await rig.close()


@pytest.mark.parametrize(("policy", "stays"), [("lru", ["m1", "m2"]), ("lfu", ["m0", "m2"])])
async def test_the_one_used_longest_ago_or_least_often_goes(small, policy, stays):
    rig = Rig(small, 3, max_models=2, eviction=policy)
    await rig.use("m0", "m0", "m1", "m2")
    assert rig.loaded == stays
    await rig.close()


async def test_a_pinned_model_stays_and_a_device_full_of_pins_refuses(small):
    pinned = {"pin": ModelSettings(model_path=str(small), memory_mb=10, pin=True)}
    rig = Rig(small, 2, models=pinned, max_models=1, load_wait_ms=0)
    await rig.use("pin")
    with pytest.raises(HeadraceError, match="no room for model m0: every loaded model is in use or pinned") as caught:
        await rig.use("m0")
    assert caught.value.code is Code.SATURATED
    # A person may still unload it.
    assert await rig.registry.unload("pin")
    await rig.use("m0")
    assert rig.loaded == ["m0"]
    await rig.close()


async def test_a_load_waits_for_a_model_in_use_and_takes_its_room(small):
    rig = Rig(small, 2, max_models=1, load_wait_ms=60_000)
    async with rig.registry.use("m0"):
        waiting = asyncio.create_task(rig.use("m1"))
        await asyncio.sleep(0.05)
        assert rig.loaded == ["m0"]
    await waiting
    assert rig.loaded == ["m1"]
    await rig.close()


async def test_an_unload_waits_for_those_who_use_the_model(small):
    rig = Rig(small, 1)
    async with rig.registry.use("m0") as loaded:
        assert await rig.registry.unload("m0")
        assert loaded.runner.shape.visual == (6, 320, 320)
        assert rig.loaded == ["m0"]
    assert rig.loaded == []
    await rig.close()


async def test_callers_that_meet_at_a_model_share_one_load_and_one_may_leave(small):
    rig = Rig(small, 1)
    callers = [asyncio.create_task(rig.use("m0")) for _ in range(8)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert rig.registry.records["m0"].loads == 1
    assert rig.registry.loaded["m0"].using == 0
    await rig.close()


async def test_models_go_round_the_devices_or_to_the_least_loaded_or_where_they_prefer(small):
    preferring = {"there": ModelSettings(model_path=str(small), memory_mb=10, preferred_gpu=1)}
    rig = Rig(small, 4, models=preferring, gpus=2)
    await rig.use("m0", "m1", "there", "m2", "m3")
    assert {name: loaded.device.index for name, loaded in rig.registry.loaded.items()} == {
        "m0": 0, "m1": 1, "there": 1, "m2": 0, "m3": 1,
    }  # fmt: skip
    await rig.close()
    assert [Assignment("least-loaded").choose(used) for used in ([5, 3, 3], [0, 1, 1])] == [1, 0]


async def test_what_nobody_used_for_the_idle_timeout_is_unloaded(small):
    rig = Rig(small, 2, idle_timeout_ms=10_000)
    await rig.use("m0")
    rig.clock.advance(9)
    await rig.use("m1")
    rig.clock.advance(2)
    await rig.registry.sweep()
    assert rig.loaded == ["m1"]
    await rig.close()


async def test_a_model_larger_than_a_device_is_refused_at_once(small):
    rig = Rig(small, 0, models={"huge": ModelSettings(model_path=str(small), memory_mb=5_000)})
    with pytest.raises(HeadraceError, match="needs 5000 MiB, and at most 4096 MiB are for models on a GPU"):
        await rig.use("huge")
    await rig.close()


async def test_a_lease_that_is_lost_unloads_its_model_after_its_users(small):
    rig = Rig(small, 1)
    lost = []
    acquire = rig.leases.acquire

    async def taken(model, gpu, mb, on_lost):
        lost.append(on_lost)
        return await acquire(model, gpu, mb, on_lost)

    rig.leases.acquire = taken
    async with rig.registry.use("m0"):
        lost[0]("somebody of a higher priority needs it")
        await asyncio.sleep(0)
        assert rig.registry.loaded["m0"].leaving
    assert rig.loaded == []
    await rig.close()


async def test_a_caller_cut_off_in_an_eviction_leaves_no_memory_behind(small):
    rig = Rig(small, 1)
    await rig.use("m0")
    unloading = asyncio.create_task(rig.registry.unload("m0"))
    await asyncio.sleep(0)
    assert rig.loaded == []
    unloading.cancel()
    await asyncio.gather(unloading, return_exceptions=True)
    await rig.close()
