"""`headrace bench lease`: handshakes with the real arbiter process, and what ten thousand leases weigh."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from typing import Final

import grpc
import msgspec

from loadtest.launched import running, service
from loadtest.lease import load
from loadtest.relay import proc
from loadtest.relay.machine import UnfitError, facts
from loadtest.relay.runs import Machine
from loadtest.relay.stats import Quantiles, Spread, spread
from loadtest.reported import Place, add_options, report, say
from streamkit.ops.options import Parser

__all__ = ["main"]

SCHEMA: Final = "headrace.bench.lease/2"
_P50_MS: Final = 0.6
_P99_MS: Final = 1.0
#: Arbiter and echo take turns so often.
_ROUNDS: Final = 3
#: Rough length of the part that is not paced, in seconds a lease.
_HOLD_S: Final = 0.004


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """What held leases cost the arbiter."""

    leases: int
    rss_per_lease_bytes: float
    churned: int
    growth_per_churned_lease_bytes: float
    #: Beside all of them, one at a time, asynchronous.
    acquire_ms: Quantiles


class Handshakes(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of client, in interleaved rounds: the arbiter, and a gRPC service with nothing behind it."""

    arbiter_ms: list[Quantiles]
    echo_ms: list[Quantiles]
    #: Medians over the rounds.
    p50_ms: float
    p99_ms: float
    #: Of arbiter to echo, of the same round.
    p50_ratio: Spread | None
    p99_ratio: Spread | None

    @property
    def in_budget(self) -> bool:
        """p50 below 0.6 ms and p99 below 1 ms."""
        return self.p50_ms < _P50_MS and self.p99_ms < _P99_MS


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    schema: str = SCHEMA
    machine: Machine
    holders: int
    rate_per_s: float
    sync_acquire: Handshakes
    async_acquire: Handshakes
    held: Weight
    #: p50 below 0.6 ms and p99 below 1 ms, for both kinds of client; null = a quick run judges nothing.
    budget_met: bool | None


def main(argv: list[str]) -> int:
    """Run the benchmark and print JSON; 0 when it ran, 1 when the arbiter failed, 2 for wrong arguments."""
    return report(_parser(), argv, _measure, failures=(grpc.RpcError,))


def _parser() -> Parser:
    parser = Parser(
        prog="headrace bench lease",
        description="Acquires GPU leases from a real arbiter process over loopback, in turns from many holders, then"
        " holds many at once. Prints JSON.",
    )
    parser.add_argument("--quick", action="store_true", help="a short run: does it work?")
    parser.add_argument("--holders", type=int, default=64, metavar="N", help="connections with a lease (64)")
    parser.add_argument("--rate", type=float, default=200.0, metavar="R", help="acquires a second, in turns (200)")
    parser.add_argument(
        "--count", type=int, metavar="N", help="acquires measured of each kind of client (4000; quick: 300)"
    )
    parser.add_argument("--leases", type=int, metavar="N", help="leases held at once (10000; quick: 1000)")
    add_options(parser, "ARBITER")
    return parser


def _measure(options: argparse.Namespace, place: Place) -> Report:
    count = options.count if options.count is not None else 300 if options.quick else 4_000
    leases = options.leases if options.leases is not None else 1_000 if options.quick else 10_000
    if not (1 <= options.holders <= 1_000 and count >= 1 and options.rate > 0 and leases >= 1):
        raise UnfitError("--holders is 1 to 1000, --count, --rate and --leases are above 0")
    os.sched_setaffinity(0, {place.load_cpu})
    folder, cpus = place.folder, {place.server_cpu}
    settings = (
        f'[arbiter]\ninventory = "static"\nstatic_gpus_mb = [1_000_000]\nmax_leases = {leases + 10_000}\n'
        f'state_dir = "{folder / "state"}"\n'
    )
    ready = folder / "echo.json"
    echo_line = [sys.executable, "-m", "loadtest.lease.echo", str(ready)]
    with service("arbiter", settings, folder, cpus) as arbiter, running("echo", echo_line, ready, cpus) as echo:
        addresses = arbiter.address, str(echo["url"]).removeprefix("grpc://")
        turn = max(1, count // _ROUNDS)
        acquires = turn * _ROUNDS * 4
        took_s = acquires / options.rate + leases * _HOLD_S
        say(f"{acquires:,} acquires, then {leases:,} leases: about {took_s:.0f} s")
        paced = {"holders": options.holders, "count": turn, "rate": options.rate}
        turns: list[list[Quantiles]] = [[], [], [], []]
        for number in range(_ROUNDS):
            say(f"  round {number + 1} of {_ROUNDS}: {options.holders} holders, synchronous and asynchronous clients")
            for column, address in enumerate(addresses):
                turns[column].append(load.handshakes_sync(address, **paced))
                turns[2 + column].append(asyncio.run(load.handshakes_async(address, **paced)))
        empty, full, once, twice, beside = asyncio.run(
            load.hold_many(
                addresses[0], leases=leases, churn=leases, rss=lambda: proc.rss_bytes([arbiter.pid]), say=say
            )
        )
    sync, asynchronous = _handshakes(turns[0], turns[1]), _handshakes(turns[2], turns[3])
    return Report(
        machine=facts(),
        holders=options.holders,
        rate_per_s=options.rate,
        sync_acquire=sync,
        async_acquire=asynchronous,
        held=Weight(
            leases=leases,
            rss_per_lease_bytes=(full - empty) / leases,
            churned=2 * leases,
            growth_per_churned_lease_bytes=(twice - once) / (2 * leases),
            acquire_ms=beside,
        ),
        budget_met=None if options.quick else sync.in_budget and asynchronous.in_budget,
    )


def _handshakes(arbiter: list[Quantiles], echo: list[Quantiles]) -> Handshakes:
    pairs = list(zip(arbiter, echo, strict=True))
    return Handshakes(
        arbiter_ms=arbiter,
        echo_ms=echo,
        p50_ms=statistics.median(one.p50 for one in arbiter),
        p99_ms=statistics.median(one.p99 for one in arbiter),
        p50_ratio=spread([ours.p50 / bare.p50 for ours, bare in pairs]),
        p99_ratio=spread([ours.p99 / bare.p99 for ours, bare in pairs]),
    )
