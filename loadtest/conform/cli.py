"""`headrace conform`: the command line of the conformance suite."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from loadtest.conform.backend import Backend
from loadtest.conform.case import CASES, Case
from loadtest.conform.http import Target
from loadtest.conform.ours import OURS, Ours
from loadtest.conform.report import Report, Terminal
from loadtest.conform.rig import Rig, Timings
from loadtest.conform.suite import UnreachableError, all_cases, find_model, reach, run_cases
from loadtest.launched import SiteError
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, address, new_file

__all__ = ["main"]

_MODEL: Final = "conform"
_LONGEST: Final = 10_000_000


class _CannotError(Exception):
    """The suite cannot be run as asked; the text says why."""


def _parser() -> Parser:
    parser = Parser(
        prog="headrace conform",
        description="Checks any OpenAI-style streaming gateway: what it does with slow, broken and vanishing "
        "engines and clients. Exit status 1 when a case fails.",
        epilog="With --backend-listen the suite is the engine behind the gateway: point the gateway at it and give "
        f'it the model name "{_MODEL}" (docs/conformance.md has configurations for nginx and LiteLLM). Without, only '
        "the cases run that need nothing but the gateway.",
    )
    parser.add_argument("url", nargs="?", type=_url, metavar="URL", help="the gateway, such as http://127.0.0.1:7400")
    parser.add_argument("--self", action="store_true", dest="ours", help="start our own edge over the backend")
    parser.add_argument("--model", metavar="NAME", help="what to ask for (default: the first that it lists)")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable with the gateway's key")
    parser.add_argument(
        "--backend-listen",
        action="append",
        type=address,
        default=[],
        metavar="HOST:PORT",
        help="where the gateway expects its engine; give it twice for the cases that need a second engine",
    )
    parser.add_argument("--first-event-ms", type=_ms, default=0.0, metavar="N", help="the gateway's own deadline")
    parser.add_argument("--idle-ms", type=_ms, default=0.0, metavar="N", help="its deadline in mid-stream")
    parser.add_argument("--heartbeat-ms", type=_ms, default=0.0, metavar="N", help="its heartbeat interval")
    parser.add_argument("--patience-s", type=_seconds, default=5.0, metavar="N", help="what is slow (default: 5)")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="this case; may be repeated")
    parser.add_argument("--list", action="store_true", help="print every case and what it requires")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the report there too")
    return parser


def _ms(text: str) -> float:
    return _seconds(text) / 1000


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= _LONGEST:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most {_LONGEST:,}, got {text}")
    return value


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT or https://HOST, got {text}")
    return text


def _chosen(only: Sequence[str]) -> list[Case]:
    every = all_cases()
    if unknown := [name for name in only if name not in CASES]:
        raise _CannotError(f"no such case: {', '.join(unknown)}; --list prints them")
    return [case for case in every if not only or case.id in only]


def _key(name: str | None) -> str:
    if not name:
        return ""
    if not (key := os.environ.get(name)):
        raise _CannotError(f"the environment variable {name} is not set")
    return key


async def _run(options: argparse.Namespace, terminal: Terminal) -> Report:
    chosen = _chosen(options.only)
    if options.ours == bool(options.url):
        raise _CannotError("name a gateway's URL, or --self; see headrace conform --help")
    addresses = options.backend_listen
    if options.ours and not addresses:
        addresses = [("127.0.0.1", 0), ("127.0.0.1", 0)]
    timings = Timings(options.first_event_ms, options.idle_ms, options.heartbeat_ms)
    async with contextlib.AsyncExitStack() as stack:
        backend = None
        if addresses:
            try:
                backend = await stack.enter_async_context(Backend(addresses, options.model or _MODEL))
            except OSError as error:
                raise _CannotError(f"the backend cannot listen: {error}") from error
            terminal.line(f"scripted backend: {', '.join(backend.urls)}, model {backend.model}")
        url = options.url
        if options.ours and backend is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-conform-")))
            terminal.line("starting our own edge and control")
            ours = await stack.enter_async_context(Ours(backend.urls, backend.model, folder))
            url, timings = ours.url, OURS
        rig = Rig(Target(url, options.model or "", _key(options.api_key_env)), backend, timings, options.patience_s)
        await reach(rig)
        model = options.model or await find_model(rig)
        rig.target = Target(url, model, rig.target.key)
        terminal.line(f"gateway: {url}, model {model}; {len(chosen)} cases")
        results = await run_cases(rig, chosen, addresses=len(addresses), told=terminal.progress)
    name = "headrace (--self)" if options.ours else url
    return Report.of(name, model, "backend" if addresses else "gateway", results)


def main(argv: list[str]) -> int:
    """Run the suite; 0 = no case failed, 1 = one did, 2 = it cannot be run so."""
    return carry_out(_parser(), argv, _main, refusals=(_CannotError, UnreachableError, SiteError))


def _main(options: argparse.Namespace) -> int:
    terminal = Terminal()
    if options.list:
        for case in all_cases():
            terminal.line(f"{case.id:30} {case.needs:8} {case.severity:6} {case.requires}")
        return 0
    report = asyncio.run(_run(options, terminal))
    terminal.table(report)
    if options.json:
        options.json.write_bytes(report.json())
    return 1 if report.failed else 0
