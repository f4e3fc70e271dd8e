"""`headrace plan modes`: the flags and environment of every engine in Mode A or B, and what a switch must check."""

from __future__ import annotations

import argparse
import json
import shlex
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from core_gpu.modes.compose import compose
from core_gpu.modes.plan import ModesPlan, plan_modes
from core_gpu.modes.settings import Budget, GpuSettings
from core_gpu.modes.switch import checks, steps
from core_gpu.planner.units import PlanError, card_bytes, mib_up
from launch import config
from launch.screen import Screen
from streamkit.ops import settings
from streamkit.ops.settings import SettingsError

__all__ = ["modes"]

_MOST_STATE_BYTES = 8_388_608


def modes(options: argparse.Namespace) -> int:
    """Print the plan, or with --check-switch the procedure; 1 = a precondition does not hold.

    Raises:
        SettingsError: configuration, options or state cannot be used, or the layout does not hold.
    """
    gpu, budgets = _layout(options)
    try:
        plan = plan_modes(gpu, budgets)
        if options.check_switch:
            return _switch(options, plan)
    except PlanError as error:
        raise SettingsError(str(error)) from None
    if options.compose:
        _write(options.compose, compose(plan))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode())
    elif options.compose != "-":
        _draw(Screen(), plan, options.compose)
    return 0


def _layout(options: argparse.Namespace) -> tuple[GpuSettings, tuple[Budget, ...]]:
    gpu: GpuSettings = config.section(options.config, "gpu")
    budgets = config.budgets(options.config)
    given: dict[str, Any] = {
        key: value for key in ("mode", "partition") if (value := getattr(options, key)) is not None
    }
    if options.gpu_model:
        given["model"] = options.gpu_model
    if options.gpu:
        try:
            given["memory_mb"] = [mib_up(card_bytes(options.gpu, "--gpu"))] * len(gpu.memory_mb)
        except PlanError as error:
            raise SettingsError(str(error)) from None
    if given:
        gpu = settings.convert({**msgspec.to_builtins(gpu), **given}, GpuSettings, "command line", key="gpu")
    return gpu, budgets


def _write(path: str, text: str) -> None:
    if path == "-":
        print(text, end="")
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--compose: {path}: cannot be written: {error.strerror}") from None


def _draw(screen: Screen, plan: ModesPlan, written: str | None) -> None:
    kind = "shared with discipline" if plan.mode == "A" else f"partitioned: {plan.partition}"
    screen.line(screen.bold(f"Mode {plan.mode}, {kind}"))
    screen.line(screen.dim(plan.note))
    for gpu in plan.gpus:
        screen.line(
            f"GPU {gpu.index}: {gpu.budgeted_mb:,} of {gpu.cap_mb:,} MiB budgeted, {gpu.memory_mb:,} in all,"
            f" {gpu.spare_mb:,} left to nobody"
        )
    if plan.before:
        screen.line()
        screen.line(screen.bold("before, by an administrator"))
        for text in plan.before:
            _told(screen, text)
    engines = {engine.name: engine for engine in plan.engines}
    for number, name in enumerate(plan.start_order, 1):
        engine = engines[name]
        screen.line()
        screen.line(f"{number}. {screen.bold(name)}  {engine.engine}, GPU {engine.gpu}, {engine.budget_mb:,} MiB")
        for key, value in engine.environment.items():
            screen.line(
                f"     {key}={shlex.quote(value)} \\" if engine.command else f"     {key}={shlex.quote(value)}"
            )
        for text in _command(engine.command):
            screen.line(f"     {text}")
        for path, content in engine.files.items():
            screen.line(f"     {path}:")
            for text in content.splitlines():
                screen.line(screen.dim(f"       {text}"))
        for text in (f"lease: {engine.lease}", *engine.warnings):
            _told(screen, text)
    if written:
        screen.line()
        screen.line(f"wrote {written}; docker compose -f compose.yaml -f {written} up")


def _command(command: tuple[str, ...]) -> list[str]:
    """Return a command over several lines, an option and its value on each."""
    lines: list[str] = []
    for part in map(shlex.quote, command):
        if lines and (part.startswith("-") or len(lines[-1]) + len(part) > 66):
            lines.append(f"  {part}")
        elif lines:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return [f"{line} \\" if line is not lines[-1] else line for line in lines]


def _told(screen: Screen, text: str) -> None:
    first, *rest = textwrap.wrap(text, 72, break_long_words=False, break_on_hyphens=False)
    screen.line(f"   - {first}")
    for line in rest:
        screen.line(f"     {line}")


def _switch(options: argparse.Namespace, plan: ModesPlan) -> int:
    listed = steps(plan)
    found = checks(_state(options.state), plan) if options.state else []
    if options.json:
        document = {"steps": listed, "checks": [{"holds": each.holds, "what": each.what} for each in found]}
        print(json.dumps(document, indent=2))
        return 0 if all(each.holds for each in found) else 1
    screen = Screen()
    screen.line(screen.bold(f"to Mode {plan.mode}{f', {plan.partition}' if plan.partition else ''}"))
    for number, text in enumerate(listed, 1):
        first, *rest = textwrap.wrap(text, 74)
        screen.line(f"{number:2}. {first}")
        for line in rest:
            screen.line(f"    {line}")
    screen.line()
    if not found:
        screen.line("nothing was checked: give the arbiter's GetState as JSON with --state FILE")
        return 0
    for each in found:
        screen.line(f"  ok   {each.what}" if each.holds else screen.red(f"  NOT  {each.what}"))
    bad = sum(not each.holds for each in found)
    screen.line(
        "engines may stop and the layout may change" if not bad else f"{bad} of {len(found)} do not hold: wait"
    )
    return 1 if bad else 0


def _state(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_STATE_BYTES + 1)
        found = json.loads(data) if len(data) <= _MOST_STATE_BYTES else None
    except FileNotFoundError:
        raise SettingsError(f"--state: {path}: no such file") from None
    except OSError as error:
        raise SettingsError(f"--state: {path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"--state: {path}: not valid JSON") from None
    if not isinstance(found, dict):
        raise SettingsError(f"--state: {path}: expected the JSON of GetState")
    return found
