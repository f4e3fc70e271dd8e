"""One writer for each signal, and ages that grow: messages in, words out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from control.arbiters import Arbiters, Word
from control.registry import Registry
from control.settings import ControlSettings
from control.snapshot import Board
from streamkit.flow.clock import ManualClock
from streamkit.wire.backend import Backend
from streamkit.wire.ids import Instance
from streamkit.wire.state import ArbiterState, Header, Pressure, freshness


class Desk:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[str] = []
        self.arbiters = Arbiters(self.clock, self._tell)

    def _tell(self, name: str, fields: Mapping[str, object]) -> None:
        self.told.append(name)

    def say(
        self, incarnation: str, sequence: int, host: str = "gpu-a", age_ms: int = 0, **pressure: Pressure
    ) -> bool:
        header = Header(instance=f"{host}.0.{incarnation}", sequence=sequence, age_ms=age_ms)
        return self.arbiters.read(msgspec.json.encode(ArbiterState(header=header, host=host, pressure=pressure)))


def test_the_newest_word_counts_and_grows_old():
    desk = Desk()
    assert desk.arbiters.word("vllm") is None
    assert desk.say("a", 1, vllm="busy", age_ms=30)
    desk.clock.advance(0.5)
    assert desk.arbiters.word("vllm") == Word("busy", 530)
    assert desk.arbiters.states()[0].header.age_ms == 530
    assert desk.arbiters.stale_in_s() == pytest.approx(0.471)
    assert not desk.say("a", 1, vllm="down"), "a message that was heard already"
    assert desk.say("a", 2, vllm="ok")
    assert desk.arbiters.word("vllm") == Word("ok", 0)
    assert desk.say("a", 3)
    assert desk.arbiters.word("vllm") is None, "it speaks of it no more"
    assert desk.arbiters.ignored["replayed"] == 1


def test_of_two_arbiters_of_a_host_the_newer_one_is_believed():
    desk = Desk()
    desk.say("a", 7, vllm="ok")
    assert desk.say("b", 1, vllm="shedding")
    for sequence in (8, 9):
        assert not desk.say("a", sequence, vllm="ok")
    assert desk.arbiters.word("vllm") == Word("shedding", 0)
    assert desk.arbiters.ignored["older"] == 2
    assert desk.told == ["arbiter.replaced", "arbiter.twice"], "told once"
    # Its clock may have been set back before a restart: silence of the newer one gives way.
    desk.clock.advance(1.1)
    assert desk.say("a", 10, vllm="busy")
    assert desk.arbiters.word("vllm") == Word("busy", 0)


def test_a_backend_belongs_to_the_host_that_named_it_first():
    desk = Desk()
    desk.say("a", 1, "gpu-a", vllm="ok")
    desk.say("a", 1, "gpu-b", vllm="down", tf="ok")
    assert desk.arbiters.word("vllm") == Word("ok", 0)
    assert desk.arbiters.word("tf") == Word("ok", 0)
    assert desk.arbiters.ignored["claimed"] == 1
    desk.clock.advance(1.1)
    desk.say("a", 2, "gpu-b", vllm="down")
    assert desk.arbiters.word("vllm") == Word("down", 0), "that host is silent"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"header":{"instance":"gpu-a.0.a","sequence":1},"host":"gpu-b","pressure":{}}',
        b'{"header":{"instance":"gpu-a","sequence":1},"host":"gpu-a","pressure":{}}',
        b'{"header":{"instance":"gpu-a.0.a","sequence":1,"version":2},"host":"gpu-a","pressure":{}}',
        b'{"header":{"instance":"gpu-a.0.a","sequence":1},"host":"gpu-a","pressure":{"vllm":"panic"}}',
    ],
)
def test_rubbish_is_counted(message):
    desk = Desk()
    assert not desk.arbiters.read(message)
    assert desk.arbiters.ignored["malformed"] == 1
    assert desk.arbiters.states() == ()


def test_hosts_are_bounded():
    desk = Desk()
    assert sum(desk.say("a", 1, f"gpu-{number}", vllm="ok") for number in range(100)) == 64
    assert desk.arbiters.ignored["too_many"] == 36


def test_a_change_of_pressure_or_of_freshness_is_news_and_an_age_is_not():
    desk = Desk()
    backend = Backend(name="vllm", engine="vllm", url="http://127.0.0.1:9", models=("m",))
    registry = Registry((backend,), ControlSettings(), clock=desk.clock, arbiters=desk.arbiters)
    board = Board(registry, Instance("control", 0, "1"), max_waits=1, clock=desk.clock)

    def moved() -> int:
        before = board.sequence
        board.refresh()
        return board.sequence - before

    desk.say("a", 1, vllm="ok")
    assert moved() == 1
    desk.clock.advance(0.3)
    desk.say("a", 2, vllm="ok")
    desk.clock.advance(0.3)
    assert moved() == 0
    desk.say("a", 3, vllm="busy")
    assert moved() == 1
    desk.clock.advance(desk.arbiters.stale_in_s() + 0.001)
    assert moved() == 1
    (seen,) = board.view.backends
    assert (seen.pressure, freshness(seen.pressure_age_ms).value) == ("busy", "stale")
