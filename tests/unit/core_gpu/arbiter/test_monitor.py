"""The watchdog as a table, and the monitor on a scripted adapter: who is shed, asked for room, and restarted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from core_gpu.arbiter.adapters.contract import Busy, Room, Status
from core_gpu.arbiter.monitor import Monitor, Watched, ours
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.arbiter.shedding import LADDER
from core_gpu.arbiter.watchdog import Verdict, Watchdog
from core_gpu.modes.settings import Budget
from streamkit.flow.clock import ManualClock
from streamkit.wire.backend import Backend
from streamkit.wire.state import Ailing

PAGE = Path(__file__).parents[4] / "docs" / "operations" / "shedding.md"
V = Verdict


def test_the_diagram_is_drawn_from_the_table():
    rows = [f"    {name.upper()} --> {to.upper()}" for name, more in LADDER.items() for to in more]
    drawn = "\n".join(["stateDiagram-v2", "    [*] --> OK", *rows])
    assert f"```mermaid\n{drawn}\n```" in PAGE.read_text()


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([1_000, 1_256, 1_256], [V.WITHIN] * 3),
        ([1_300] * 7, [V.ABOVE] * 5 + [V.CAUGHT, V.OVER]),
        ([1_300] * 4 + [1_200] + [1_300] * 6, [V.ABOVE] * 4 + [V.WITHIN] + [V.ABOVE] * 5 + [V.CAUGHT]),
        ([1_300] * 6 + [1_200, 1_000, 1_300], [V.ABOVE] * 5 + [V.CAUGHT, V.OVER, V.BACK, V.ABOVE]),
        ([1_300] * 10, [V.ABOVE] * 5 + [V.CAUGHT, V.OVER, V.OVER, V.STUBBORN, V.OVER]),
        ([None, 1_300, None], [V.WITHIN, V.ABOVE, V.WITHIN]),
    ],
)
def test_the_watchdog(used: list[int | None], expected: list[Verdict]):
    dog = Watchdog(1_000, 256, hold_s=5, room_s=3)
    assert [dog.see(mb, float(second)) for second, mb in enumerate(used)] == expected


class Engine:
    """An adapter that says what the test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.alive = True
        self.says = Busy(running=0, waiting=0)
        self.used_mb: int | None = None
        self.asked: list[int] = []
        self.room = Room(asked=("m",))

    async def status(self) -> Status:
        return Status(alive=self.alive)

    async def busy(self) -> Busy:
        return self.says

    async def make_room(self, mb: int) -> Room:
        self.asked.append(mb)
        return self.room

    async def confirm_released(self, mb: int, *, before_mb: int, within_s: float) -> int:
        return 0

    async def load(self, model: str, *, within_s: float) -> None: ...


class Desk:
    def __init__(self, **budget: object) -> None:
        self.clock = ManualClock()
        self.engine = Engine()
        self.told: list[str] = []
        backend = Backend(name="chat", engine="vllm", url="http://127.0.0.1:9", models=("m",))
        given = Budget(name="chat", engine="vllm", budget_mb=1_000, parallel=4, **budget)  # type: ignore[arg-type]
        self.one = Watched(backend, given, self.engine, lambda: self.engine.used_mb)
        self.frozen = False
        self.monitor = Monitor(
            [self.one], ArbiterSettings(), frozen=lambda _: self.frozen, tell=self._tell, clock=self.clock
        )

    def _tell(self, name: str, fields: Mapping[str, object]) -> None:
        self.told.append(name)

    async def look(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            await self.monitor.look(self.one)
            self.clock.advance(0.5)

    async def made(self) -> None:
        assert self.one.making is not None
        await self.one.making


@pytest.mark.anyio
async def test_a_queue_a_stall_and_a_death_become_pressure():
    desk = Desk()
    assert desk.monitor.pressure() == {}, "nothing is said of what was never looked at"
    await desk.look(1)
    assert desk.monitor.pressure() == {"chat": "ok"}
    for says, level in ((Busy(running=4, waiting=1), "busy"), (Busy(running=4, waiting=4), "shedding")):
        desk.engine.says = says
        await desk.look(6)
        assert desk.monitor.pressure() == {"chat": level}
    desk.engine.says = Busy(running=0, waiting=0)
    await desk.look(6)
    assert desk.monitor.pressure() == {"chat": "ok"}
    desk.engine.says = Busy(running=1, waiting=0, stalled=True)
    await desk.look(6)
    assert desk.monitor.pressure() == {"chat": "shedding"}
    desk.engine.alive = False
    await desk.look(2)
    assert desk.monitor.pressure() == {"chat": "down"}
    assert desk.told == ["backend.pressure"] * 5


@pytest.mark.anyio
async def test_over_its_budget_it_sheds_and_is_asked_for_room_once():
    desk = Desk()
    desk.engine.used_mb = 1_500
    await desk.look(8)
    await desk.made()
    assert desk.monitor.pressure() == {"chat": "shedding"}
    assert desk.engine.asked == [500]
    assert (desk.one.rooms, desk.one.rooms_confirmed) == (1, 0), "asked, and not believed"
    desk.engine.used_mb = 900
    await desk.look(7)
    assert desk.monitor.pressure() == {"chat": "ok"}
    assert [name for name in desk.told if "overrun" in name] == ["backend.overrun", "backend.overrun.ended"]
    assert desk.one.restarts == 0


@pytest.mark.anyio
async def test_during_a_start_up_nobody_on_that_gpu_is_asked_for_room():
    desk = Desk()
    desk.frozen = True
    desk.engine.used_mb = 1_500
    await desk.look(8)
    await desk.made()
    assert desk.engine.asked == []
    assert desk.monitor.pressure() == {"chat": "shedding"}


@pytest.mark.anyio
@pytest.mark.parametrize(("on_overrun", "ran"), [("shed", False), ("restart", True)])
async def test_the_last_resort_is_the_operators_own_command_and_only_where_it_is_asked_for(
    tmp_path: Path, on_overrun: str, ran: bool
):
    mark = tmp_path / "ran"
    command = (sys.executable, "-c", f"open({str(mark)!r}, 'x')")
    desk = Desk(on_overrun=on_overrun, restart=command)
    desk.engine.used_mb = 1_500
    await desk.look(25)
    await desk.made()
    assert mark.exists() is ran
    assert desk.one.restarts == ran
    assert ("backend.restart.ended" in desk.told) is ran


@pytest.mark.anyio
async def test_a_sick_backend_is_restarted_by_the_operators_own_command_now_and_then(tmp_path: Path):
    runs = tmp_path / "runs"
    command = (sys.executable, "-c", f"open({str(runs)!r}, 'a').write('x')")
    desk = Desk(on_sick="restart", restart=command)
    desk.clock.advance(1_000)
    for _ in range(3):
        desk.monitor.ailing(Ailing(backend="chat", why="slow"))
        await desk.made()
    assert runs.read_text() == "x", "once within restart_pause_ms, whoever asks"
    desk.clock.advance(120)
    desk.monitor.ailing(Ailing(backend="chat", why="slow"))
    await desk.made()
    assert runs.read_text() == "xx"
    desk.clock.advance(120)
    desk.frozen = True
    desk.monitor.ailing(Ailing(backend="chat"))
    assert desk.one.restarts == 2, "not while an engine starts on that GPU"


@pytest.mark.anyio
async def test_what_is_not_allowed_or_not_here_is_not_restarted():
    desk = Desk(restart=("/bin/false",))
    desk.monitor.ailing(Ailing(backend="chat", why="slow"))
    desk.monitor.ailing(Ailing(backend="somebody else's"))
    assert desk.one.making is None
    assert desk.told == ["backend.ailing"]


@pytest.mark.anyio
async def test_a_lease_that_ignores_its_notice_has_its_engine_asked():
    desk = Desk()
    assert desk.monitor.make_room("chat", 300)
    await desk.made()
    assert desk.engine.asked == [300]
    assert not desk.monitor.make_room("stranger", 300)


def test_a_hosts_backends_are_those_on_loopback_or_with_a_budget():
    def backend(name: str, url: str) -> Backend:
        return Backend(name=name, engine="vllm", url=url)

    here = backend("here", "http://127.0.0.1:1")
    named = backend("named", "http://10.0.0.9:1")
    there = backend("there", "http://10.0.0.8:1")
    budget = Budget(name="named", engine="vllm", budget_mb=1)
    assert ours([here, named, there], [budget]) == [(here, None), (named, budget)]


@pytest.mark.anyio
async def test_a_bug_in_a_look_does_not_end_the_watch(caplog: pytest.LogCaptureFixture):
    desk = Desk()

    failed = asyncio.Event()

    async def broken() -> Status:
        failed.set()
        raise KeyError("a bug of ours")

    desk.engine.status = broken  # type: ignore[method-assign]
    task = asyncio.create_task(desk.monitor.run())
    async with asyncio.timeout(10):
        await failed.wait()
        failed.clear()
        await failed.wait()
    assert "a bug of ours" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
