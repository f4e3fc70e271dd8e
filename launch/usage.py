"""`headrace usage`: who used how much of what, as the tally has it (docs/operations/usage.md)."""

from __future__ import annotations

import argparse
import asyncio
import csv
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from launch import durations
from launch.screen import Screen
from observe.usage import BY, Row
from streamkit.ops.command import carry_out
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.ops.options import Parser
from streamkit.ops.settings import SettingsError
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["main", "table"]

_DEFAULT: Final = "http://127.0.0.1:7441"
_CALL_MS: Final = 30_000
#: Names are not cut further.
_NAME: Final = 8
_FIGURES: Final = ("streams", "prompt_tokens", "completion_tokens", "slot_s", "gpu_s")


class _Answer(msgspec.Struct):
    since_ms: int
    until_ms: int
    by: list[str]
    behind: int
    rows: list[Row]


def main(arguments: Sequence[str]) -> int:
    """Run the command; 2 = the tally cannot be asked."""
    return carry_out(_parser(), arguments, _run)


def _run(options: argparse.Namespace) -> int:
    found = asyncio.run(_asked(options))
    if options.format == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    elif options.format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([*found.by, *_FIGURES])
        writer.writerows([_cells(row, found.by, plain=True) for row in found.rows])
    else:
        screen = Screen()
        for line in table(found.rows, found.by, screen, shutil.get_terminal_size().columns if screen.live else 0):
            screen.line(line)
        moment = datetime.fromtimestamp(found.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        behind = f"; {found.behind} events are still to be counted" if found.behind else ""
        screen.line(screen.dim(f"  since {moment} UTC, in whole hours{behind}"))
        if any(row.gpu_s is None for row in found.rows):
            screen.line(screen.dim("  ? = nobody measured it: GPU time is known of engines that run under a lease"))
    return 0


async def _asked(options: argparse.Namespace) -> _Answer:
    since_ms = int(options.since.total_seconds() * 1000)
    url = f"{options.url.rstrip('/')}/v1/usage?{urlencode({'since_ms': since_ms, 'by': ','.join(options.by)})}"
    async with HttpClient() as http:
        try:
            answer = await http.get(url, timeout_ms=_CALL_MS)
        except HttpError as error:
            raise SettingsError(
                f"{str(error).replace(url, options.url)}; does headrace observe run there? --url says where else"
            ) from None
    if answer.status != 200:
        try:
            message = msgspec.json.decode(answer.body)["error"]["message"]
        except (*UNREADABLE, LookupError, TypeError):
            message = f"status {answer.status}"
        raise SettingsError(f"{options.url}: {message}")
    try:
        return msgspec.json.decode(answer.body, type=_Answer)
    except UNREADABLE as error:
        raise SettingsError(f"{options.url}: what answers there is no observe: {error}") from None


def table(rows: Sequence[Row], by: Sequence[str], screen: Screen, width: int = 0) -> list[str]:
    """Return the rows as lines for a terminal, and their sum.

    Args:
        rows: what was used.
        by: what it is told by.
        screen: paints.
        width: columns: the longest names are cut where there are too few; 0 = there are enough.
    """
    heads = [*(name.upper() for name in by), "STREAMS", "PROMPT", "COMPLETION", "SLOT-S", "GPU-S"]
    if not rows:
        return ["  nothing was used"]
    total = Row(
        streams=sum(row.streams for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        slot_s=round(sum(row.slot_s for row in rows), 3),
        gpu_s=sum(row.gpu_s or 0.0 for row in rows) if any(row.gpu_s is not None for row in rows) else None,
    )
    cells = [_cells(row, by) for row in (*rows, total)]
    cells[-1][0] = "all"
    wide = [max(len(line[column]) for line in (heads, *cells)) for column in range(len(heads))]
    over = sum(wide) + 2 * len(wide) - width if width else 0
    while over > 0 and max(wide[: len(by)]) > _NAME:
        wide[wide.index(max(wide[: len(by)]))] -= 1
        over -= 1

    def joined(line: Sequence[str]) -> str:
        return (
            "  "
            + "  ".join(
                f"{_cut(cell, room):{room}}" if column < len(by) else f"{cell:>{room}}"
                for column, (cell, room) in enumerate(zip(line, wide, strict=True))
            ).rstrip()
        )

    return [screen.dim(joined(heads)), *(joined(line) for line in cells[:-1]), screen.bold(joined(cells[-1]))]


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else name[: room - 1] + "…"


def _cells(row: Row, by: Sequence[str], *, plain: bool = False) -> list[str]:
    members: dict[str, Any] = msgspec.to_builtins(row)
    names = [str(members[name]) or ("" if plain else "-") for name in by]
    gpu = members["gpu_s"]
    if plain:
        figures = [str(members[name]) if members[name] is not None else "" for name in _FIGURES]
    else:
        figures = [f"{members[name]:,}" for name in _FIGURES[:3]]
        figures += [f"{members['slot_s']:,.1f}", "?" if gpu is None else f"{gpu:,.1f}"]
    return [*names, *figures]


def _by(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(BY) or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(BY)}, with commas, got {text}")
    return names


def _parser() -> Parser:
    parser = Parser(prog="headrace usage", description="Tokens and GPU time by key, tenant and model.")
    parser.add_argument("--url", default=_DEFAULT, metavar="URL", help="where usage is counted (%(default)s)")
    parser.add_argument(
        "--since", type=durations.since, default=timedelta(days=1), metavar="TIME", help="24h, 7d … (24h)"
    )
    parser.add_argument(
        "--by", type=_by, default=["tenant", "key", "model"], metavar="NAMES", help="tenant,key,model"
    )
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="how to print it")
    return parser
