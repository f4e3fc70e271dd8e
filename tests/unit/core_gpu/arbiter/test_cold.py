"""Cold models: one load however many ask, room from neighbours first, and only what is measured counts."""

from __future__ import annotations

import asyncio

import pytest

from core_gpu.arbiter.adapters.contract import AdapterError, Busy, ModelState, Room, Status
from core_gpu.arbiter.cold import ColdModels
from core_gpu.arbiter.monitor import Monitor, Watched
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.modes.settings import Budget
from streamkit.wire.backend import Backend
from streamkit.wire.state import Want

CAP_MB = 1_000


class Engine:
    """An adapter of an engine that loads its whole budget, and lets all of it go, or only says so."""

    def __init__(self, budget_mb: int, *, resident: bool, lies: bool = False) -> None:
        self.budget_mb, self.lies = budget_mb, lies
        self.used_mb = budget_mb if resident else 0
        self.loads = 0
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.fails = False

    async def status(self) -> Status:
        return Status(alive=True, models={"m": ModelState.RESIDENT if self.used_mb else ModelState.COLD})

    async def busy(self) -> Busy:
        return Busy()

    async def make_room(self, mb: int) -> Room:
        self.used_mb = self.used_mb if self.lies else 0
        return Room(asked=("m",))

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        return before_mb - self.used_mb

    async def load(self, model: str, *, within_s: float) -> None:
        await self.may_load.wait()
        if self.fails:
            raise AdapterError("no")
        self.loads += 1
        self.used_mb = self.budget_mb


class Desk:
    def __init__(self, **engines: Engine) -> None:
        self.told: list[str] = []
        watched = []
        for name, engine in engines.items():
            given = Budget(name=name, engine="vllm", budget_mb=engine.budget_mb)
            backend = Backend(name=name, engine="vllm", url="http://127.0.0.1:9", models=("m",))
            watched.append(Watched(backend, given, engine, lambda engine=engine: engine.used_mb))
        self.monitor = Monitor(watched, ArbiterSettings(), tell=lambda name, _: self.told.append(name))
        self.cold = ColdModels(self.monitor, lambda _: CAP_MB - sum(engine.used_mb for engine in engines.values()))

    async def look(self) -> None:
        for one in self.monitor.watched.values():
            await self.monitor.look(one)

    async def load(self, name: str) -> None:
        self.cold.want(Want(backend=name, model="m"))
        while self.cold._loading:  # noqa: ASYNC110  what ends it is what is tested
            await asyncio.sleep(0)


@pytest.mark.anyio
async def test_one_load_however_many_ask():
    engine = Engine(600, resident=False)
    desk = Desk(a=engine)
    desk.cold.want(Want(backend="a", model="m"))
    assert desk.cold.residences() == {}, "nothing is known of it yet"
    await desk.look()
    assert desk.cold.residences() == {"a": {"m": "cold"}}
    engine.may_load.clear()
    for _ in range(5):
        desk.cold.want(Want(backend="a", model="m"))
    engine.may_load.set()
    await desk.load("a")
    assert engine.loads == 1
    assert desk.cold.residences() == {"a": {"m": "resident"}}
    await desk.load("a")
    assert engine.loads == 1
    desk.cold.want(Want(backend="stranger", model="m"))


@pytest.mark.anyio
async def test_a_neighbour_makes_room_and_is_not_emptied_by_turns():
    wanted, neighbour = Engine(600, resident=False), Engine(700, resident=True)
    desk = Desk(wanted=wanted, neighbour=neighbour)
    await desk.look()
    assert desk.cold.residences()["wanted"] == {"m": "no_room"}
    await desk.load("wanted")
    assert (wanted.loads, neighbour.used_mb) == (1, 0)
    await desk.look()
    await desk.load("neighbour")
    assert neighbour.loads == 0, "who was loaded a moment ago stays for min_residency_ms"
    assert desk.cold.residences()["neighbour"] == {"m": "no_room"}


@pytest.mark.anyio
async def test_room_that_is_only_said_loads_nothing():
    wanted, neighbour = Engine(600, resident=False), Engine(700, resident=True, lies=True)
    desk = Desk(wanted=wanted, neighbour=neighbour)
    await desk.look()
    await desk.load("wanted")
    assert wanted.loads == 0
    assert desk.told[-1] == "backend.load.no_room"


@pytest.mark.anyio
async def test_a_load_that_fails_is_told_and_may_be_tried_again():
    engine = Engine(600, resident=False)
    engine.fails = True
    desk = Desk(a=engine)
    await desk.look()
    await desk.load("a")
    assert desk.told[-1] == "backend.load.failed"
    engine.fails = False
    await desk.load("a")
    assert engine.loads == 1
