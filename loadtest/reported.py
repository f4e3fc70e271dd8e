"""How a benchmark goes whose report is JSON: its cores, its scratch folder, what ends it, where its report goes."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from loadtest.launched import SiteError
from loadtest.relay.machine import UnfitError, choose_cpus
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, new_file

__all__ = ["Place", "add_options", "ended_by_sigterm", "report", "say"]


class Place(msgspec.Struct, frozen=True):
    """Where a benchmark runs."""

    #: For files of all kinds; gone when it is over.
    folder: Path
    load_cpu: int
    server_cpu: int


def add_options(parser: argparse.ArgumentParser, server: str = "SERVER") -> None:
    """Add what `report` reads.

    Args:
        parser: of the benchmark.
        server: what has the second core.
    """
    parser.add_argument("--cpus", metavar=f"LOAD,{server}", help="cores to use (default: the first two)")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the report there too")


def report(
    parser: Parser,
    arguments: Sequence[str],
    measure: Callable[[argparse.Namespace, Place], msgspec.Struct],
    *,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Measure, print JSON, and return the exit status: 1 where a server failed, 2 where it cannot be done as asked.

    Args:
        parser: of the benchmark's arguments; `add_options` has been there.
        arguments: as they were given.
        measure: returns the report; raises UnfitError, SiteError or OSError.
        failures: of a server, that it raises besides; gRPC's say their details.
    """
    failed: tuple[type[Exception], ...] = (SiteError, OSError, *failures)

    def run(options: argparse.Namespace) -> int:
        try:
            return _reported(options, measure)
        except failed as error:
            details = getattr(error, "details", None)
            say(f"{parser.prog}: {details() if callable(details) else error}")
            return 1

    return carry_out(parser, arguments, run, refusals=(UnfitError,))


def _reported(options: argparse.Namespace, measure: Callable[[argparse.Namespace, Place], msgspec.Struct]) -> int:
    load_cpu, server_cpu = choose_cpus(options.cpus)
    with ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        found = measure(options, Place(Path(folder), load_cpu, server_cpu))
    text = msgspec.json.format(msgspec.json.encode(found)).decode()
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does, so that it, too, ends every child on the way out."""
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(line: str) -> None:
    """Tell a person: standard output is the report's."""
    print(line, file=sys.stderr, flush=True)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
