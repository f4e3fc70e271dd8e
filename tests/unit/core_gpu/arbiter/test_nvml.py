"""The NVML inventory against a scripted driver, and the real one where this machine has it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from core_gpu.arbiter.inventory import InventoryError, Measured, Reading
from core_gpu.arbiter.nvml import NvmlInventory
from core_gpu.arbiter.run import inventory_of
from core_gpu.arbiter.sampler import Sampler
from core_gpu.arbiter.settings import ArbiterSettings
from tests.support.nvml import Card, ScriptedNvml


def card(**fields) -> Card:
    return Card(**{"uuid": "GPU-a", "total_mb": 24_564, "free_mb": 20_000, **fields})


def read(nvml: ScriptedNvml, uuid: str = "GPU-a") -> Measured:
    return NvmlInventory(nvml).read().devices[uuid]


@pytest.mark.parametrize("old", [False, True])
def test_what_is_not_free_is_used_whatever_version_the_driver_knows(old):
    assert read(ScriptedNvml(card(), old=old)).used_mb == 4_564


def test_processes_of_all_lists_count_once():
    ours = card(compute={1: 900, 2: 100}, graphics={1: 900, 3: 50}, mps={4: 700})
    assert read(ScriptedNvml(ours)).processes == {1: 900, 2: 100, 3: 50, 4: 700}


def test_a_process_without_figures_is_listed_without():
    assert read(ScriptedNvml(card(compute={1: None, 2: 5}))).processes == {1: None, 2: 5}
    assert read(ScriptedNvml(card(compute={1: None}, graphics={1: 70}))).processes == {1: 70}


def test_a_gpu_in_mig_mode_is_its_slices():
    slices = [Card("MIG-1", 10_000, 9_000, compute={5: 800}), None, Card("MIG-2", 20_000, 20_000)]
    nvml = ScriptedNvml(card(uuid="GPU-whole", slices=slices, mig_on=True), card(slices=[None]))
    inventory = NvmlInventory(nvml)
    found = [(device.id, device.index, device.total_mb, device.mig) for device in inventory.devices()]
    assert found == [("MIG-1", 0, 10_000, True), ("MIG-2", 1, 20_000, True), ("GPU-a", 2, 24_564, False)]
    assert inventory.read().devices["MIG-1"].processes == {5: 800}


def test_a_lost_gpu_is_missing_and_comes_back():
    first, second = card(), card(uuid="GPU-b")
    nvml = ScriptedNvml(first, second)
    inventory = NvmlInventory(nvml)
    with nvml.losing(first, "NVMLError_GpuIsLost"):
        assert set(inventory.read().devices) == {"GPU-b"}
        with (
            nvml.losing(second, "NVMLError_Unknown"),
            pytest.raises(InventoryError, match="no GPU could be measured"),
        ):
            inventory.read()
    assert set(inventory.read().devices) == {"GPU-a", "GPU-b"}


def test_a_gpu_without_memory_of_its_own_is_left_out():
    shared = card(uuid="GPU-shared", lost="NVMLError_NotSupported")
    assert [device.id for device in NvmlInventory(ScriptedNvml(shared, card())).devices()] == ["GPU-a"]
    nvml = ScriptedNvml(shared)
    with pytest.raises(InventoryError, match="lists no GPU"):
        NvmlInventory(nvml)
    assert nvml.open == 0, "the driver was let go"


def test_no_driver_is_told_or_means_the_configured_gpus():
    with pytest.raises(InventoryError, match="NVIDIA's driver does not answer"):
        NvmlInventory(ScriptedNvml(driver=False))
    if not Path("/dev/nvidiactl").exists():
        assert inventory_of(ArbiterSettings(static_gpus_mb=(1, 2))).kind == "static"


@pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="this machine has no NVIDIA GPU")
def test_the_real_driver():
    inventory = NvmlInventory()
    reading = inventory.read()
    for device in inventory.devices():
        assert 0 <= reading.devices[device.id].used_mb <= device.total_mb
    inventory.close()


def test_a_driver_that_hangs_keeps_nobody_waiting():
    """Measuring is a thread's business: the event loop goes on, and takes no reading meanwhile."""
    release = threading.Event()
    reading = threading.Event()

    class Hanging:
        kind = "nvml"
        measures = True
        calls = 0

        def devices(self):
            return ()

        def read(self) -> Reading:
            self.calls += 1
            if self.calls > 1:
                reading.set()
                release.wait(30)
            return Reading(time.monotonic(), {})

        def close(self) -> None:
            return

    async def body() -> None:
        taken: list[Reading] = []
        sampler = Sampler(Hanging(), 0.001, taken.append)
        await sampler.start()
        assert len(taken) == 1
        assert await asyncio.to_thread(reading.wait, 10)
        begun = time.thread_time()
        for _ in range(100):
            await asyncio.sleep(0)
        assert time.thread_time() - begun < 1, "the loop turned while the driver hung"
        assert len(taken) == 1
        release.set()
        await sampler.stop()

    asyncio.run(body())
