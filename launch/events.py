"""`headrace events`: follow what happens at all sites, or look at what happened."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from launch import durations
from launch.event_line import brief, line, moment_of
from launch.event_log import Filter, found_events, kind, run, site
from launch.screen import Screen
from streamkit.ops.options import Parser
from streamkit.wire.telemetry import Event

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run the command; 2 = there is nothing to read from."""
    return run(_parser(), arguments, _events)


async def _events(options: argparse.Namespace, screen: Screen) -> int:
    asked = Filter(
        kind=options.kind or "", site=options.site or "", request_id=options.request_id, tenant=options.tenant
    )
    since = None if options.since is None else datetime.now(UTC) - options.since
    after = 0 if options.after is None and (options.all or since is not None) else options.after
    found = found_events(options.nats, asked, after=after, since=since, follow=not options.no_follow)
    page = _Page(screen, wide=options.wide)
    async for one in found:
        if options.json:
            body = {"sequence": one.sequence, **msgspec.to_builtins(one.event)}
            print(msgspec.json.encode(body).decode(), flush=True)
        else:
            page.show(one.event)
    return 0


class _Page:
    """Lines of a terminal, one for each event, and one for each day that is not the one before."""

    def __init__(self, screen: Screen, *, wide: bool) -> None:
        self._screen = screen
        self._wide = wide or not screen.live
        # Who looks on as it happens is not told what day it is.
        self._day = datetime.now().astimezone().date()

    def show(self, event: Event) -> None:
        """Print an event."""
        if self._wide:
            self._screen.line(line(event, self._screen))
            return
        if (day := moment_of(event).date()) != self._day:
            self._day = day
            self._screen.line(self._screen.dim(f"{day:%A, %Y-%m-%d}"))
        self._screen.line(brief(event, self._screen, shutil.get_terminal_size().columns))


def _parser() -> Parser:
    parser = Parser(prog="headrace events", description="Follow the events of all sites; Ctrl-C ends it.")
    parser.add_argument(
        "--kind", type=kind, metavar="KIND", help="stream, stream.end, lease, healing, backend.down …"
    )
    parser.add_argument("--site", type=site, metavar="NAME", help="of this site only")
    parser.add_argument("--request-id", default="", metavar="ID", help="of this request only")
    parser.add_argument("--tenant", default="", metavar="NAME", help="of this tenant only")
    parser.add_argument("--since", type=durations.since, metavar="TIME", help="begin so long ago: 30m, 24h, 7d")
    parser.add_argument("--all", action="store_true", help="begin with the oldest that is kept")
    parser.add_argument("--after", type=_sequence, metavar="N", help="begin behind this sequence, as --json shows it")
    parser.add_argument("--wide", action="store_true", help="all fields, as a file gets them; not cut to the window")
    parser.add_argument("--no-follow", action="store_true", help="end with the newest")
    return parser


def _sequence(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a sequence as --json shows it, got {text}")
    return int(text)
