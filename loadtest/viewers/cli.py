"""`headrace bench viewers`: what each further viewer of a face costs, in CPU time of the process that sends it.

The edge passes packets on that a simulated compositor made once; two edges on the same core do so with a session
each; the peer encodes for each viewer, as most do. All send 320x240 at 25 frames a second in H.264 with Opus, to
viewers that decode nothing, in turns within a round. What is read is CPU time, not time: a busy machine makes it
somewhat dearer for all.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from loadtest.launched import headrace, running, services
from loadtest.relay.machine import UnfitError, facts
from loadtest.relay.runs import Machine
from loadtest.relay.stats import Spread, spread
from loadtest.reported import Place, add_options, report, say
from loadtest.viewers.audience import Server, percent
from streamkit.ops.options import Parser

__all__ = ["main"]

SCHEMA: Final = "headrace.bench.viewers/1"
_EDGE: Final = "edge"
_TWO: Final = "edge, two processes"
_OFFERS: Final = "/v1/avatars/sim-face/whep"
_PEER: Final = "encodes for each"
_SITE: Final = """\
[edge.avatars]
compositor_url = "{url}"
resume_ms = 0
[simulator]
"""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One server, or two that share the viewers."""

    server: str
    processes: int
    #: Viewers that were compared.
    few: int
    many: int
    #: Percent of a core that all its processes take, with so few; and for each further one.
    few_percent: Spread | None
    each_percent: Spread | None
    #: If a core did nothing else and any further one cost as much as these; None where noise hid what one costs.
    viewers_per_core_extrapolated: Spread | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    schema: str = SCHEMA
    machine: Machine
    seconds: float
    figures: list[Figure]
    #: How much dearer a further viewer of the peer is, within each round; None where noise hid what one costs.
    ratio: Spread | None
    #: The same of two edge processes: 1 = a viewer costs the same wherever it is.
    second_process: Spread | None
    #: Viewers of two processes with a core each, over those of one.
    two_cores_extrapolated: Spread | None


def main(argv: list[str]) -> int:
    """Run the benchmark and print JSON; 0 when it ran, 1 when a server failed, 2 for wrong arguments."""
    return report(_parser(), argv, _measure)


def _parser() -> Parser:
    parser = Parser(
        prog="headrace bench viewers",
        description="What a further viewer of a face costs the process that sends it: this edge, which passes packets"
        " on, two processes of it, and a server that encodes for each viewer. Prints JSON.",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of all servers in turns (5)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="of each measurement (8)")
    parser.add_argument("--viewers", type=int, default=20, metavar="N", help="further ones of the edge (20)")
    add_options(parser)
    return parser


def _measure(options: argparse.Namespace, place: Place) -> Report:
    if not (1 <= options.rounds <= 100 and 0 < options.seconds <= 600 and 1 <= options.viewers <= 1_000):
        raise UnfitError("--rounds is 1 to 100, --seconds above 0 and at most 600, --viewers 1 to 1000")
    rows: dict[str, list[tuple[float, float]]] = {}
    with _servers(place) as (edge, second, peer):
        # A peer that is out of breath skips frames and looks cheap, so it gets few.
        servers = {_EDGE: ([edge], options.viewers), _TWO: ([edge, second], options.viewers), _PEER: ([peer], 2)}
        for number in range(options.rounds):
            for name, (asked, further) in servers.items():
                say(f"round {number + 1}: {name} …")
                few, lots = (
                    percent(asked, count, options.seconds, place.folder, place.load_cpu)
                    for count in (len(asked), len(asked) + further)
                )
                rows.setdefault(name, []).append((few, (lots - few) / further))
    return Report(
        machine=facts(),
        seconds=options.seconds,
        figures=[
            Figure(
                server=name,
                processes=len(asked),
                few=len(asked),
                many=len(asked) + further,
                few_percent=spread([few for few, _ in rows[name]]),
                each_percent=spread([each for _, each in rows[name]]),
                viewers_per_core_extrapolated=_inverse(100.0, [each for _, each in rows[name]]),
            )
            for name, (asked, further) in servers.items()
        ],
        ratio=spread(_ratios(rows, _PEER)),
        second_process=spread(_ratios(rows, _TWO)),
        two_cores_extrapolated=_inverse(2.0, _ratios(rows, _TWO)),
    )


@contextlib.contextmanager
def _servers(place: Place) -> Iterator[tuple[Server, Server, Server]]:
    """Run an edge, another one and the peer on the server's core for the length of the block."""
    folder, cpus = place.folder, {place.server_cpu}
    ready = {name: folder / f"{name}.json" for name in ("faces", "up", "second", "peer")}
    faces = [sys.executable, "-m", "simulator.compositor", "--ready-file", str(ready["faces"])]
    peer = [sys.executable, "-m", "loadtest.viewers.peer", str(ready["peer"])]
    site = ("--config", str(folder / "site.toml"), "--ready-file")
    with running("faces", faces, ready["faces"], {place.load_cpu}) as made:
        (folder / "site.toml").write_text(_SITE.format(url=made["url"]))
        up = headrace("up", "--port-base", "0", *site, str(ready["up"]))
        with running("up", up, ready["up"], cpus), running("peer", peer, ready["peer"], cpus) as other:
            one = services(ready["up"])
            ports = ("--port", "0", "--ops-port", "0", "--control-url", str(one["control"].url))
            edge = headrace("edge", *ports, *site, str(ready["second"]))
            with running("second", edge, ready["second"], cpus) as second:
                yield (
                    Server(f"{one[_EDGE].url}{_OFFERS}", one[_EDGE].pid or 0),
                    Server(f"{second['url']}{_OFFERS}", int(second["pid"])),
                    Server(str(other["url"]), int(other["pid"])),
                )


def _ratios(rows: dict[str, list[tuple[float, float]]], name: str) -> list[float]:
    """Return what a further viewer of `name` costs, over one of the edge, in each round; empty if noise hid one."""
    pairs = [(theirs[1], ours[1]) for ours, theirs in zip(rows[_EDGE], rows[name], strict=True)]
    return [theirs / ours for theirs, ours in pairs] if all(ours > 0 for _, ours in pairs) else []


def _inverse(whole: float, parts: Sequence[float]) -> Spread | None:
    """Return how often each part goes into the whole; None where noise hid one."""
    return spread([whole / part for part in parts]) if all(part > 0 for part in parts) else None
