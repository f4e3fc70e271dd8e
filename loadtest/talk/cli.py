"""`headrace bench talk`: how soon a face is there, answers, and is quiet again, through all of `headrace up`."""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable
from typing import Final

import httpx
import msgspec

from loadtest.relay.machine import UnfitError, facts
from loadtest.relay.runs import Machine
from loadtest.relay.stats import Spread
from loadtest.reported import Place, add_options, report, say
from loadtest.soak.faces import FaceSite
from loadtest.talk.rounds import Round, talked
from loadtest.talk.viewer import ViewerError
from streamkit.ops.options import Parser

__all__ = ["main"]

SCHEMA: Final = "headrace.bench.talk/1"
#: The budgets, in ms; the second has the voice's own time in it.
_FIRST_PICTURE: Final = 500.0
_FIRST_SOUND: Final = 300.0
_STALE: Final = 200.0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One time, of all rounds, in ms."""

    name: str
    ms: Spread
    budget_ms: float | None
    #: The median, and the worst round, over the budget.
    over_budget: float | None
    worst_over_budget: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    schema: str = SCHEMA
    machine: Machine
    figures: list[Figure]
    rounds: list[Round]


_ROWS: Final[tuple[tuple[str, Callable[[Round], float], float | None], ...]] = (
    ("answer to the offer → first whole picture", lambda one: one.first_picture_ms, _FIRST_PICTURE),
    ("question → first token", lambda one: one.first_token_ms, None),
    ("first sentence's end → first sound", lambda one: one.sound_after_sentence_ms, _FIRST_SOUND),
    ("that end is certain → first sound", lambda one: one.sound_after_certain_ms, _FIRST_SOUND),
    ("interrupt → last open mouth", lambda one: one.stale_picture_ms, _STALE),
    ("interrupt → last sound", lambda one: one.stale_sound_ms, _STALE),
)


def main(argv: list[str]) -> int:
    """Run the benchmark and print JSON; 0 when it ran, 1 when a service failed, 2 for wrong arguments."""
    return report(_parser(), argv, _measure, failures=(ViewerError, httpx.HTTPError))


def _parser() -> Parser:
    parser = Parser(
        prog="headrace bench talk",
        description="Starts a gateway with a face, and has conversations with it: a viewer comes over WebRTC, asks"
        " the simulator, hears the answer, interrupts it, and leaves. What counts is what it decodes, on its own"
        " clock. Prints JSON.",
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="conversations (20); one more warms up")
    add_options(parser)
    return parser


def _measure(options: argparse.Namespace, place: Place) -> Report:
    if not 1 <= options.rounds <= 1_000:
        raise UnfitError(f"--rounds is 1 to 1000, got {options.rounds}")
    rounds = asyncio.run(_talks(options.rounds, place))
    return Report(machine=facts(), rounds=rounds, figures=[_figure(*row, rounds) for row in _ROWS])


async def _talks(count: int, place: Place) -> list[Round]:
    say("a gateway with a face starts …")
    async with FaceSite(place.folder) as site:
        say("warming up …")
        await talked(site.edge_url, 0)
        rounds = []
        for number in range(1, count + 1):
            rounds.append(one := await talked(site.edge_url, number))
            stale = max(one.stale_picture_ms, one.stale_sound_ms)
            say(
                f"{number} of {count}: picture after {one.first_picture_ms:.0f} ms, sound"
                f" {one.sound_after_certain_ms:.0f} after a sentence, quiet {stale:.0f} after the interruption"
            )
        return rounds


def _figure(name: str, read: Callable[[Round], float], budget_ms: float | None, rounds: list[Round]) -> Figure:
    times = [read(one) for one in rounds]
    middle = statistics.median(times)
    return Figure(
        name=name,
        ms=Spread(middle, min(times), max(times), len(times)),
        budget_ms=budget_ms,
        over_budget=round(middle / budget_ms, 2) if budget_ms else None,
        worst_over_budget=round(max(times) / budget_ms, 2) if budget_ms else None,
    )
