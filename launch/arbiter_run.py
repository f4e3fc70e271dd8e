"""`headrace arbiter run -- COMMAND`: an engine under a lease, started behind the arbiter's barrier."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from launch import config
from streamkit.ops.command import USAGE, carry_out
from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError, nearest

if TYPE_CHECKING:
    from core_gpu.modes.parts import EnginePlan
    from core_gpu.starter.starter import Engine

__all__ = ["main"]

#: As sysexits.h has it: try again later.
_STATUS_REFUSED: Final = 75
_HEALTH: Final = {"vllm": "http://{}:{}/health", "ollama": "http://{}:{}/"}


def main(arguments: list[str]) -> int:
    """Run the engine and return its exit status; 75 = the arbiter refused or is away, 2 = it cannot be asked so."""
    return carry_out(_parser(), arguments, _run)


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="headrace-engine-") as folder:
        return _started(options, Path(folder))


def _started(options: argparse.Namespace, folder: Path) -> int:
    from core_gpu.starter.desk import ArbiterAwayError, Desk, RefusedError  # noqa: PLC0415  needs grpc
    from core_gpu.starter.starter import Starter  # noqa: PLC0415

    engine = _engine(options, folder)
    desk = Desk(options.arbiter, engine.name)
    try:
        return Starter(desk, engine, _say).run()
    except (RefusedError, ArbiterAwayError) as error:
        _say(str(error))
        return _STATUS_REFUSED
    except OSError as error:
        _say(f"{engine.command[0]}: cannot be started: {error.strerror}")
        return USAGE
    finally:
        desk.close()


def _parser() -> Parser:
    parser = Parser(
        prog="headrace arbiter run",
        description="Start an engine under a GPU lease: reserve, raise the start-up barrier, launch, wait until it is"
        " healthy, lower the barrier; the lease is renewed until the engine ends.",
    )
    parser.add_argument(
        "--arbiter", default="127.0.0.1:50051", metavar="ADDRESS", help="the arbiter's address (%(default)s)"
    )
    parser.add_argument("--config", metavar="FILE", help="a headrace.toml with [[budgets]]")
    parser.add_argument("--budget", metavar="NAME", help="take memory, GPU, flags and environment from this budget")
    parser.add_argument("--mb", type=int, metavar="N", help="MiB to reserve; left out, the budget's")
    parser.add_argument("--gpu", default="", metavar="GPU", help="UUID or index; left out, the budget's or any")
    parser.add_argument("--name", metavar="NAME", help="the lease's client (the budget, or the command)")
    parser.add_argument("--model", default="", metavar="NAME", help="the lease's model")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="1 is the highest, 9 the lowest (2)")
    parser.add_argument(
        "--health", metavar="URL", help="http://HOST:PORT/PATH that answers 200, or tcp://HOST:PORT (by the budget)"
    )
    parser.add_argument(
        "--wait-ms", type=int, default=60_000, metavar="N", help="for memory and for the barrier (%(default)s)"
    )
    parser.add_argument(
        "--deadline-ms", type=int, default=600_000, metavar="N", help="from launch to healthy (%(default)s)"
    )
    parser.add_argument("line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="left out, the budget's")
    return parser


def _engine(options: argparse.Namespace, folder: Path) -> Engine:
    from core_gpu.starter.health import parsed_health  # noqa: PLC0415
    from core_gpu.starter.starter import Engine  # noqa: PLC0415

    for option, value, low, high in (
        ("--wait-ms", options.wait_ms, 0, 600_000),
        ("--deadline-ms", options.deadline_ms, 1, 86_400_000),
        ("--priority", options.priority, 0, 9),
        ("--mb", 1 if options.mb is None else options.mb, 1, 10_000_000),
    ):
        if not low <= value <= high:
            raise SettingsError(f"{option}: expected {low} to {high:,}, got {value:,}")
    command = options.line[1:] if options.line[:1] == ["--"] else options.line
    environment: dict[str, str] = {}
    mb, gpu, model, health = options.mb, options.gpu, options.model, options.health
    if options.budget:
        planned, budget_model = _budgeted(options)
        command = command or _placed(planned.command, planned.files, folder)
        environment = dict(planned.environment)
        mb = planned.budget_mb if mb is None else mb
        gpu, model = gpu or str(planned.gpu), model or budget_model
        place = "127.0.0.1" if planned.host == "0.0.0.0" else planned.host  # noqa: S104  asked, not listened on
        health = health or _HEALTH.get(planned.engine, "tcp://{}:{}").format(place, planned.port)
    if not command:
        raise SettingsError("missing: the command to run, behind --; or --config FILE --budget NAME")
    if mb is None:
        raise SettingsError("--mb: missing: how much to reserve; headrace plan vram says how much a model takes")
    if not health:
        raise SettingsError("--health: missing: where to ask whether it is up, e.g. http://127.0.0.1:8000/health")
    try:
        asked = parsed_health(health)
    except ValueError as error:
        raise SettingsError(f"--health: {error}") from None
    return Engine(
        name=options.name or options.budget or Path(command[0]).name, model=model or Path(command[0]).name,
        command=command, environment=environment, health=asked, mb=mb, gpu=gpu, priority=options.priority,
        wait_ms=options.wait_ms, deadline_ms=options.deadline_ms,
    )  # fmt: skip


def _budgeted(options: argparse.Namespace) -> tuple[EnginePlan, str]:
    from core_gpu.modes.plan import plan_modes  # noqa: PLC0415
    from core_gpu.planner.units import PlanError  # noqa: PLC0415

    budgets = config.budgets(options.config)
    models = {budget.name: budget.model for budget in budgets}
    if options.budget not in models:
        raise SettingsError(
            f'--budget: no budget "{options.budget}" in {options.config or "no --config FILE"}'
            f"{nearest(options.budget, models)}"
        )
    try:
        found = plan_modes(config.section(options.config, "gpu"), budgets)
    except PlanError as error:
        raise SettingsError(f"{options.config}: {error}") from None
    return next(engine for engine in found.engines if engine.name == options.budget), models[options.budget]


def _placed(command: Sequence[str], files: Mapping[str, str], folder: Path) -> list[str]:
    """Write the files that a planned command names, and return the command with where they are."""
    words = list(command)
    for path, content in files.items():
        here = folder / Path(path).name
        here.write_text(content)
        words = [word.replace(path, str(here)) for word in words]
    return words


def _say(text: str) -> None:
    print(f"headrace arbiter run: {text}", file=sys.stderr, flush=True)
