"""The registry and its numbered snapshot, on a clock that the test moves."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from control.health import Finding
from control.registry import Registry
from control.settings import ControlSettings
from control.snapshot import Board
from streamkit.flow.clock import ManualClock
from streamkit.wire.backend import Backend
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.ids import Instance
from streamkit.wire.keys import KeySnapshot
from streamkit.wire.state import EdgeReport, Header, Snapshot

GPU = Backend(name="gpu", engine="vllm", url="http://127.0.0.1:9", models=("m",))


class Desk:
    def __init__(self, incarnation: str = "ff", **settings: int) -> None:
        self.clock = ManualClock()
        self.told: list[tuple[str, str, str]] = []
        self.registry = Registry(
            (GPU,),
            ControlSettings(**settings),  # type: ignore[arg-type]
            clock=self.clock,
            on_backend=lambda *change: self.told.append(change),
        )
        self.board = Board(self.registry, Instance("control", 0, incarnation), max_waits=10, clock=self.clock)

    def hear(self, instance: str = "edge.0.1", sequence: int = 0, **rest: object) -> None:
        with self.registry.hearing(report(instance, sequence, **rest)):
            pass

    def snapshot(self) -> Snapshot:
        return msgspec.json.decode(self.board.encoded(), type=Snapshot)


def report(instance: str = "edge.0.1", sequence: int = 0, **rest: object) -> EdgeReport:
    return EdgeReport(header=Header(instance=instance, sequence=sequence, age_ms=5), **rest)  # type: ignore[arg-type]


def test_the_sequence_rises_on_change_only():
    desk = Desk()
    first = desk.board.sequence
    desk.hear()
    assert desk.board.sequence == first + 1
    desk.hear(sequence=1, streams=9, inflight={"gpu": 9})
    desk.clock.advance(1)
    desk.registry.observe("gpu", Finding(ok=True))
    assert desk.board.sequence == first + 2
    desk.registry.observe("gpu", Finding(ok=True))
    desk.registry.set_keys(KeySnapshot())
    assert desk.board.sequence == first + 2
    desk.hear(sequence=2, draining=True)
    desk.registry.set_keys(KeySnapshot(version=1))
    assert desk.board.sequence == first + 4


def test_a_later_life_starts_above_an_earlier_one():
    earlier = Instance.new("control")
    later = Instance.new("control")
    assert int(later.incarnation, 16) >= int(earlier.incarnation, 16)
    assert Desk("1000").board.sequence == 0x1000
    assert Desk("1000").snapshot().header == Header(instance="control.0.1000", sequence=0x1000)


def test_counts_travel_with_the_next_snapshot_though_they_are_no_news():
    desk = Desk()
    desk.hear()
    desk.hear(sequence=1, streams=9)
    assert desk.snapshot().edges[0].streams == 9


def test_ages_are_of_now():
    desk = Desk()
    desk.registry.observe("gpu", Finding(ok=True))
    desk.hear()
    desk.clock.advance(0.7)
    snapshot = desk.snapshot()
    assert snapshot.backends[0].age_ms == 700
    assert snapshot.edges[0].header.age_ms == 705


def test_a_report_that_was_overtaken_is_dropped():
    desk = Desk()
    desk.hear(sequence=5, streams=5)
    desk.hear(sequence=4, streams=4, draining=True)
    assert desk.snapshot().edges[0].streams == 5
    assert desk.registry.live_edges == 1


def test_edges_are_lost_after_their_time():
    desk = Desk(edge_lost_ms=3_000)
    desk.hear("a.0.1")
    desk.clock.advance(2)
    desk.hear("b.0.1")
    assert desk.registry.forget_lost() == pytest.approx(1.0)
    desk.clock.advance(1)
    sequence = desk.board.sequence
    assert desk.registry.forget_lost() == pytest.approx(2.0)
    assert desk.registry.live_edges == 1
    assert desk.board.sequence == sequence + 1
    desk.clock.advance(2)
    assert desk.registry.forget_lost() == pytest.approx(3.0)
    assert desk.registry.live_edges == 0


def test_an_edge_that_waits_here_is_not_lost():
    desk = Desk(edge_lost_ms=3_000)
    with desk.registry.hearing(report()), desk.registry.hearing(report()):
        desk.clock.advance(30)
        desk.registry.forget_lost()
        assert desk.registry.live_edges == 1
    desk.clock.advance(2.9)
    desk.registry.forget_lost()
    assert desk.registry.live_edges == 1
    desk.clock.advance(0.1)
    desk.registry.forget_lost()
    assert desk.registry.live_edges == 0


def test_edges_are_bounded():
    desk = Desk(max_edges=1)
    desk.hear("a.0.1")
    with pytest.raises(HeadraceError, match="max_edges = 1") as caught:
        desk.hear("b.0.1")
    assert caught.value.code is Code.SATURATED
    desk.hear("a.0.1", sequence=1)


def test_health_changes_are_told_once():
    desk = Desk(down_after_failures=2)
    for ok in (True, True, False, False, False):
        desk.registry.observe("gpu", Finding(ok=ok, detail="" if ok else "cannot connect"))
    assert desk.told == [("gpu", "up", ""), ("gpu", "down", "cannot connect")]


def test_requests_in_flight_are_summed_over_edges():
    desk = Desk()
    desk.hear("a.0.1", inflight={"gpu": 2})
    desk.hear("b.0.1", inflight={"gpu": 3, "other": 1})
    assert desk.registry.inflight("gpu") == 5


def test_a_view_lasts_until_the_next_change():
    desk = Desk()
    view = desk.board.view
    assert desk.board.view is view
    desk.hear()
    assert desk.board.view is not view
    assert desk.board.view.live_edges == 1


def test_waiters_share_one_encoding():
    desk = Desk()
    assert desk.board.encoded() is desk.board.encoded()
    desk.clock.advance(0.021)
    first = desk.board.encoded()
    desk.hear()
    assert desk.board.encoded() is not first


@pytest.mark.anyio
async def test_only_so_many_wait_and_nobody_after_the_close():
    desk = Desk()
    never: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    waits = [asyncio.create_task(desk.board.news(desk.board.sequence, 30_000, never)) for _ in range(10)]
    await asyncio.sleep(0)
    assert desk.board.waiting == 10
    await desk.board.news(desk.board.sequence, 30_000, never)
    desk.board.close()
    await asyncio.gather(*waits)
    await desk.board.news(desk.board.sequence, 30_000, never)
    assert desk.board.waiting == 0
