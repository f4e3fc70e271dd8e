"""`headrace bench slow`: a crowd of slow readers beside paced neighbours."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from loadtest.relay.gateways import all_gateways
from loadtest.relay.gateways.base import Gateway, GatewayError
from loadtest.relay.load.side import LoadSideError
from loadtest.relay.machine import UnfitError, choose_cpus, facts, raise_file_limit
from loadtest.relay.runs import Machine
from loadtest.reported import ended_by_sigterm
from loadtest.slow.bench import CrowdSpec, Pair, Plan, run
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, new_file

__all__ = ["main"]

SCHEMA: Final = "headrace.bench.slow/1"
_DEFAULT: Final = "headrace,nginx"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as it is written to the JSON file."""

    schema: str = SCHEMA
    machine: Machine
    seconds: float
    neighbours: int
    crowd: CrowdSpec
    pairs: list[Pair]


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 when it ran, 1 when a gateway or the load side failed, 2 for wrong arguments."""
    return carry_out(_parser(), argv, _main, refusals=(UnfitError,))


def _main(options: argparse.Namespace) -> int:
    plan = _plan(options)
    crowd = plan.crowd
    print(
        f"{plan.neighbours} neighbours at 20 tokens/s, alone and beside {crowd.slow} readers of"
        f" {crowd.bytes_per_s} B/s and {crowd.frozen} that take nothing; about {_minutes(plan)} min",
        flush=True,
    )
    try:
        with ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-slow-") as folder:
            pairs = run(plan, Path(folder), lambda line: print(line, flush=True))
    except (GatewayError, LoadSideError) as error:
        print(f"headrace bench slow: {error}", file=sys.stderr)
        return 1
    print("\n" + table(pairs))
    report = Report(machine=facts(), seconds=plan.seconds, neighbours=plan.neighbours, crowd=plan.crowd, pairs=pairs)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


def table(pairs: Sequence[Pair]) -> str:
    """Return the medians over the clean rounds, a line for each gateway; `!` = of void ones, as none was."""
    heading = (
        "gateway     gap p99 alone  crowded  ratio [range]      p99.9 ratio  KiB a reader: RSS  kernel"
        "  growth/min  cut: slow  frozen  clean"
    )
    lines = [heading]
    for name in dict.fromkeys(pair.gateway for pair in pairs):
        own = [pair for pair in pairs if pair.gateway == name]
        flowed = [pair for pair in own if pair.alone.gap_ms and pair.crowded.gap_ms]
        if not flowed:
            lines.append(f"{name:<10}  no tokens came through")
            continue
        clean = [pair for pair in flowed if pair.alone.clean and pair.crowded.clean]
        rows = clean or flowed
        p99 = [_ratio(pair, "p99") for pair in rows]
        grown = [(pair.memory.rss_bytes_per_s + pair.memory.kernel_bytes_per_s) * 60 / 2**20 for pair in rows]
        lines.append(
            f"{name:<10}  {median(_gap(pair.alone, 'p99') for pair in rows):>10.1f} ms"
            f"  {median(_gap(pair.crowded, 'p99') for pair in rows):>4.1f} ms"
            f"  {median(p99):.2f} [{min(p99):.2f}-{max(p99):.2f}]"
            f"  {median(_ratio(pair, 'p999') for pair in rows):>12.2f}"
            f"  {median(pair.memory.rss_bytes_per_reader for pair in rows) / 1024:>17.1f}"
            f"  {median(pair.memory.kernel_bytes_per_reader for pair in rows) / 1024:>6.1f}"
            f"  {median(grown):>+6.2f} MiB"
            f"  {max(pair.crowd.slow_cut for pair in rows):>9}  {max(pair.crowd.frozen_cut for pair in rows):>6}"
            f"  {len(clean)}/{len(own)}{'' if clean else '!'}"
        )
    return "\n".join(lines)


def _gap(one: object, name: str) -> float:
    return float(getattr(one.gap_ms, name))  # type: ignore[attr-defined]


def _ratio(pair: Pair, name: str) -> float:
    return _gap(pair.crowded, name) / _gap(pair.alone, name)


def _parser() -> Parser:
    parser = Parser(
        prog="headrace bench slow",
        description="What 500 readers at 1 KB/s and some that take nothing cost a gateway's memory and its other"
        " clients: the gap between two tokens of paced neighbours, with and without them, in interleaved rounds.",
    )
    parser.add_argument("--quick", action="store_true", help="one short run of a small crowd: does it work?")
    parser.add_argument("--gateways", metavar="A,B", default=_DEFAULT, help="which (default: %(default)s)")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a measuring window (default: 25)")
    parser.add_argument("--slow", type=int, metavar="N", help="slow readers (default: 500)")
    parser.add_argument("--frozen", type=int, metavar="N", help="readers that take nothing (default: 20)")
    parser.add_argument("--cpus", metavar="LOAD,GATEWAY", help="cores to use (default: the first two)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write everything there too")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    quick = options.quick
    load_cpu, gateway_cpu = choose_cpus(options.cpus)
    rounds = _given(options.runs, 1 if quick else 3)
    seconds = _given(options.seconds, 2.0 if quick else 25.0)
    slow, frozen = int(_given(options.slow, 50 if quick else 500)), int(_given(options.frozen, 5 if quick else 20))
    if not 1 <= rounds <= 20 or not 0 < seconds <= 600 or slow < 1 or frozen < 0 or slow + frozen > 4000:
        raise UnfitError("--runs must be 1 to 20, --seconds at most 600, --slow and --frozen 1 to 4000 together")
    raise_file_limit(2 * (slow + frozen) + 1024)
    return Plan(
        gateways=_gateways(options.gateways),
        rounds=int(rounds),
        seconds=seconds,
        neighbours=20 if quick else 100,
        crowd=CrowdSpec(slow=slow, frozen=frozen, bytes_per_s=1024),
        load_cpu=load_cpu,
        gateway_cpu=gateway_cpu,
    )


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _gateways(asked: str) -> list[Gateway]:
    every = {gateway.name: gateway for gateway in all_gateways()}
    found: list[Gateway] = []
    for name in filter(None, asked.split(",")):
        if name not in every:
            raise UnfitError(f"no such gateway: {name}; there are {', '.join(every)}")
        if missing := every[name].available():
            print(f"left out: {name} ({missing})")
        else:
            found.append(every[name])
    if not found:
        raise UnfitError("none of the gateways asked for is here")
    return found


def _minutes(plan: Plan) -> int:
    each_s = 2 * (plan.seconds + 8)
    return max(1, round(each_s * plan.rounds * len(plan.gateways) / 60))
