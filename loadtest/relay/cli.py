"""`headrace bench relay`: the command line of the relay benchmark."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.relay import void
from loadtest.relay.bench import Bench, Plan
from loadtest.relay.budgets import judge
from loadtest.relay.gateways import all_gateways
from loadtest.relay.gateways.base import Gateway
from loadtest.relay.load.side import LoadSideError
from loadtest.relay.machine import UnfitError, choose_cpus, facts, raise_file_limit
from loadtest.relay.metrics import summarise
from loadtest.relay.runs import GatewayInfo, Report, Rule, Settings
from loadtest.relay.scenarios import SCENARIOS, Scenario, files_needed
from loadtest.relay.table import render
from loadtest.reported import ended_by_sigterm
from streamkit.ops.command import INTERRUPTED, carry_out
from streamkit.ops.options import Parser, new_file

QUICK_SECONDS = 1.5
QUICK_SCENARIOS = ("paced-20", "ttft", "nonstream", "idle", "saturated")


def _parser() -> Parser:
    gateways = ", ".join(gateway.name for gateway in all_gateways())
    scenarios = ", ".join(scenario.name for scenario in SCENARIOS)
    parser = Parser(
        prog="headrace bench relay",
        description="Runs Headrace and every other gateway on this machine against the same backend, one after the "
        "other in interleaved rounds, and prints what each costs per token.",
        epilog=f"gateways: {gateways}. scenarios: {scenarios}. $HEADRACE_PEERS_VENV may name a virtual environment "
        "with litellm, vllm-router or sglang-router; $HEADRACE_BEFORE a checkout of another version to compare with.",
    )
    parser.add_argument("--quick", action="store_true", help="one short run of small scenarios: does it work?")
    parser.add_argument("--gateways", metavar="A,B", help="only these (default: all that are installed)")
    parser.add_argument("--scenarios", metavar="A,B", help="only these (default: all)")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a measuring window (default: 8)")
    parser.add_argument("--cpus", metavar="LOAD,GATEWAY", help="cores to use (default: the first two)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write everything there too")
    return parser


def _names(asked: str, known: Sequence[str], what: str) -> list[str]:
    """Return the names in a comma-separated list.

    Raises:
        UnfitError: one of them is unknown.
    """
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise UnfitError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def _gateways(asked: str | None) -> tuple[list[Gateway], list[GatewayInfo]]:
    """Return the gateways to run, and what is known of all that were asked for."""
    every = all_gateways()
    names = _names(asked, [gateway.name for gateway in every], "gateway") if asked else None
    chosen: list[Gateway] = []
    infos: list[GatewayInfo] = []
    for gateway in every:
        if names is not None and gateway.name not in names:
            continue
        missing = gateway.available()
        infos.append(GatewayInfo(name=gateway.name, version="" if missing else gateway.version(), missing=missing))
        if not missing:
            chosen.append(gateway)
    if not chosen:
        raise UnfitError("none of the gateways asked for is here")
    return chosen, infos


def _scenarios(asked: str | None, *, quick: bool) -> list[Scenario]:
    known = [scenario.name for scenario in SCENARIOS]
    names = _names(asked, known, "scenario") if asked else list(QUICK_SCENARIOS if quick else known)
    chosen = [scenario for scenario in SCENARIOS if scenario.name in names]
    return [scenario.quick() for scenario in chosen] if quick else chosen


def _plan(options: argparse.Namespace) -> tuple[Plan, list[GatewayInfo], Settings]:
    load_cpu, gateway_cpu = choose_cpus(options.cpus)
    scenarios = _scenarios(options.scenarios, quick=options.quick)
    raise_file_limit(max(files_needed(scenario) for scenario in scenarios))
    rounds = options.runs if options.runs is not None else (1 if options.quick else 5)
    seconds = options.seconds if options.seconds is not None else (QUICK_SECONDS if options.quick else 8.0)
    if not 1 <= rounds <= 100 or not 0 < seconds <= 600:
        raise UnfitError("--runs must be 1 to 100, and --seconds more than 0 and at most 600")
    chosen, infos = _gateways(options.gateways)
    plan = Plan(
        gateways=chosen,
        scenarios=scenarios,
        rounds=rounds,
        seconds=seconds,
        repeats=0 if options.quick else void.REPEATS,
        load_cpu=load_cpu,
        gateway_cpu=gateway_cpu,
    )
    settings = Settings(
        quick=options.quick,
        rounds=rounds,
        seconds=seconds,
        load_cpu=load_cpu,
        gateway_cpu=gateway_cpu,
        scenarios=tuple(scenario.name for scenario in scenarios),
    )
    return plan, infos, settings


def _say(line: str) -> None:
    print(line, flush=True)


def _report(bench: Bench, plan: Plan, infos: list[GatewayInfo], settings: Settings) -> Report:
    summary = summarise(bench.runs)
    return Report(
        machine=facts(),
        settings=settings,
        rule=Rule(foreign_max_share=void.FOREIGN_MAX, load_busy_max_share=void.LOAD_BUSY_MAX, repeats=plan.repeats),
        gateways=infos,
        runs=bench.runs,
        summary=summary,
        verdicts=judge(
            summary, [gateway.name for gateway in plan.gateways if gateway.interpreted], quick=settings.quick
        ),
    )


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 when it ran, 1 when a gateway or the load side failed, 2 for wrong arguments."""
    return carry_out(_parser(), argv, _main, refusals=(UnfitError,))


def _main(options: argparse.Namespace) -> int:
    plan, infos, settings = _plan(options)
    _say(
        f"{len(plan.gateways)} gateways, {len(plan.scenarios)} scenarios, {plan.rounds} round(s): {plan.cells} runs, "
        f"about {plan.estimate_s() / 60:.0f} min"
    )
    for info in infos:
        if info.missing:
            _say(f"left out: {info.name} ({info.missing})")
    status = 0
    with ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        bench = Bench(plan, Path(folder), _say)
        try:
            bench.run()
        except KeyboardInterrupt:
            _say("interrupted: the report holds what was measured so far")
            status = INTERRUPTED
        except LoadSideError as error:
            print(f"headrace bench relay: {error}", file=sys.stderr)
            status = 1
    if not bench.runs:
        return status
    report = _report(bench, plan, infos, settings)
    _say("\n" + render(report))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if status == 0 and any(run.failed for run in bench.runs):
        return 1
    return status
