"""`headrace events`: follow what happens at all sites, or look at what happened."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from launch import durations
from launch.event_log import Filter, Found, add_options, found_events, plain, run
from launch.screen import Screen
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser

__all__ = ["line", "main"]

#: Not for a line: `headrace trace` draws it, `--json` has it.
_LEFT_OUT: Final = frozenset({"timeline"})


def main(arguments: Sequence[str]) -> int:
    """Run the command; 2 = there is nothing to read from."""
    return carry_out(_parser(), arguments, lambda options: run(_events(options, Screen())))


async def _events(options: argparse.Namespace, screen: Screen) -> int:
    asked = Filter(kind=options.kind, site=options.site, request_id=options.request_id, tenant=options.tenant)
    since = None if options.since is None else datetime.now(UTC) - options.since
    after = options.after if options.after or options.all or since is not None else None
    found = found_events(options.nats, asked, after=after, since=since, follow=not options.no_follow)
    async for one in found:
        if options.json:
            body = {"sequence": one.sequence, **msgspec.to_builtins(one.event)}
            print(msgspec.json.encode(body).decode(), flush=True)
        else:
            screen.line(line(one, screen))
    return 0


def line(one: Found, screen: Screen) -> str:
    """Return an event as one line: when, where, what, and its fields."""
    event = one.event
    moment = datetime.fromtimestamp(event.at_ms / 1000).astimezone()
    clock = moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
    fields = (f"{key}={plain(value)}" for key, value in event.fields.items() if key not in _LEFT_OUT)
    return f"{screen.dim(clock)}  {event.site}  {event.source:8}  {screen.bold(event.kind)}  {' '.join(fields)}"


def _parser() -> Parser:
    parser = Parser(prog="headrace events", description="Follow the events of all sites; Ctrl-C ends it.")
    add_options(parser)
    parser.add_argument(
        "--kind", default="", metavar="KIND", help="stream, stream.end, lease, healing, backend.down …"
    )
    parser.add_argument("--site", default="", metavar="NAME", help="of this site only")
    parser.add_argument("--request-id", default="", metavar="ID", help="of this request only")
    parser.add_argument("--tenant", default="", metavar="NAME", help="of this tenant only")
    parser.add_argument("--since", type=durations.since, metavar="TIME", help="begin so long ago: 30m, 24h, 7d")
    parser.add_argument("--all", action="store_true", help="begin with the oldest that is kept")
    parser.add_argument(
        "--after", type=int, default=0, metavar="N", help="begin behind this sequence, as --json shows it"
    )
    parser.add_argument("--no-follow", action="store_true", help="end with the newest")
    return parser
