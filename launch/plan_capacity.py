"""`headrace plan capacity`: capacity, cost and bandwidth tables, recomputed and compared with the plan's figures."""

from __future__ import annotations

import argparse
import itertools
import json
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Final

from core_gpu.planner.capacity import capacity
from core_gpu.planner.figures import Figure
from core_gpu.planner.fleet import DEFAULT, Fleet, checked_fleet
from core_gpu.planner.missions import missions
from core_gpu.planner.units import PlanError
from launch.screen import Screen
from streamkit.ops.settings import SettingsError

__all__ = ["markdown", "plan_capacity"]

_SIGNS: Final = {"follows": "=", "rounded": "~", "does not follow": "!"}


def plan_capacity(options: argparse.Namespace) -> int:
    """Print every figure.

    Raises:
        SettingsError: a parameter cannot be computed with.
    """
    try:
        fleet = checked_fleet(Fleet(**{item.name: getattr(options, item.name) for item in fields(Fleet)}))
    except PlanError as error:
        raise SettingsError(str(error)) from None
    found = [*capacity(fleet), *missions(fleet)]
    if options.json:
        document = {"parameters": asdict(fleet), "figures": [asdict(each) for each in found]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif options.markdown:
        print(markdown(found), end="")
    else:
        _draw(Screen(), found, fleet)
    return 0


def _draw(screen: Screen, found: list[Figure], fleet: Fleet) -> None:
    for table, figures in itertools.groupby(found, key=lambda each: each.table):
        screen.line()
        screen.line(screen.bold(table))
        for each in figures:
            for line in _lines(screen, each):
                screen.line(line)
    wrong = sum(each.verdict == "does not follow" for each in found)
    screen.line()
    claims = sum(each.verdict is not None for each in found)
    screen.line(f"= follows   ~ rounded   ! does not follow: {wrong} of {claims} figures that were claimed")
    if changed := [item.name for item in fields(Fleet) if getattr(fleet, item.name) != getattr(DEFAULT, item.name)]:
        screen.line(f"compared with the plan's own figures, though you changed: {', '.join(changed)}")


def _lines(screen: Screen, each: Figure) -> Iterator[str]:
    claimed = f"claimed {_number(each.claimed)}" if each.claimed is not None else ""
    sign = _SIGNS[each.verdict] if each.verdict else " "
    value = f"{_number(each.value)} {each.unit}"
    line = f"{sign} {each.name:30} {value:>22}  {claimed}".rstrip()
    yield screen.red(line) if sign == "!" else line
    yield "    " + screen.dim(each.arithmetic)
    for part in textwrap.wrap(each.note, 76):
        yield "    " + part


def markdown(found: Iterable[Figure]) -> str:
    """Return the figures as Markdown tables."""
    out: list[str] = []
    for table, figures in itertools.groupby(found, key=lambda each: each.table):
        out += [
            f"### {table[0].upper()}{table[1:]}",
            "",
            "| figure | arithmetic | comes to | claimed | | |",
            "|---|---|---|---|---|---|",
        ]
        for each in figures:
            claimed = _number(each.claimed) if each.claimed is not None else ""
            verdict = f"**{each.verdict}**" if each.verdict == "does not follow" else each.verdict or ""
            cells = (each.name, each.arithmetic, f"{_number(each.value)} {each.unit}", claimed, verdict, each.note)
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.1f}".removesuffix(".0")
