"""`headrace trace ID`: one stream's life, from the event that its edge wrote at its end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from launch import durations
from launch.event_log import Filter, found_events, run
from launch.screen import Screen
from streamkit.ops.options import Parser
from streamkit.wire.telemetry import Event

__all__ = ["main", "render"]

_DAY: Final = timedelta(days=1)
_LABEL: Final = 16
_BAR: Final = 48
_WAITS, _FLOWS, _LINE, _PAUSED, _READS = "▒", "█", "░", "▓", "─"
_READERS: Final = {
    "left": "the reader left; the stream runs on",
    "resumed": "a reader came back",
    "taken_over": "another reader took it over",
}


class _Point(NamedTuple):
    """Something that happened."""

    at_ms: float
    what: str


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 = no such request, 2 = there is nothing to read from."""
    return run(_parser(), arguments, _trace)


async def _trace(options: argparse.Namespace, screen: Screen) -> int:
    since = datetime.now(UTC) - options.since
    asked = Filter(request_id=options.request_id)
    kinds = ("stream", "probe")
    found = [
        one.event
        async for one in found_events(options.nats, asked, since=since, follow=False)
        if one.event.kind.split(".")[0] in kinds
    ]
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    for event in found if not options.json else ():
        for line in render(event, screen):
            screen.line(line)
    if not found:
        print(
            f"headrace trace: nothing about {options.request_id} within {durations.told(options.since)}",
            file=sys.stderr,
        )
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(prog="headrace trace", description="Show one stream's life as a picture.")
    parser.add_argument("request_id", metavar="REQUEST-ID", help="as X-Request-Id told it")
    parser.add_argument("--since", type=durations.since, default=_DAY, metavar="TIME", help="look back so far (24h)")
    return parser


def render(event: Event, screen: Screen) -> list[str]:
    """Return the picture, no line wider than 80 columns but for an error's own words.

    Args:
        event: a `stream.end`, `probe.end` or `stream.shed`.
        screen: paints.
    """
    fields = event.fields
    moment = datetime.fromtimestamp(event.at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    what = f"{fields.get('operation', '')} for {fields.get('model', '')}"
    key = fields.get("key_id") or "none"
    lines = [
        screen.bold(f"{fields.get('request_id', '')}"),
        f"{what} by {fields.get('transport', '')}, at site {event.site}, ended {moment}",
        f"tenant {fields.get('tenant', '')}, key {key}, priority {fields.get('priority', '')}",
        "",
    ]
    if event.kind == "stream.shed":
        return [*lines, screen.red(f"refused before a backend was asked: {fields.get('code')}")]
    timeline = fields.get("timeline") or {}
    whole_ms = max(float(fields.get("duration_ms") or 0), 0.1)
    lines += [_ending(fields), ""]
    lines += [f"  {label:{_LABEL}} {bar:{_BAR}}  {end}".rstrip() for label, bar, end in _bars(timeline, whole_ms)]
    lines.append(f"  {'':{_LABEL}} 0{f'{whole_ms:,.0f} ms':>{_BAR - 1}}")
    lines.append("")
    lines += [f"  {point.at_ms:>10,.0f} ms  {point.what}" for point in sorted(_points(fields, timeline, whole_ms))]
    return lines


def _ending(fields: dict[str, Any]) -> str:
    parts = []
    if (tokens := fields.get("completion_tokens")) is not None:
        parts.append(f"{tokens:,} tokens")
    for name, words in (("ttft_ms", "first event after"), ("longest_gap_ms", "longest gap")):
        if (value := fields.get(name)) is not None:
            parts.append(f"{words} {value:,.0f} ms")
    code = f" ({fields['code']})" if fields.get("code") else ""
    tail = f": {', '.join(parts)}" if parts else ""
    return f"{fields.get('outcome', '')}{code} after {fields.get('duration_ms') or 0:,.0f} ms{tail}"


def _bars(timeline: dict[str, Any], whole_ms: float) -> Iterator[tuple[str, str, str]]:
    """Yield label, bar and what stands behind it."""

    def bar(*parts: tuple[float, float, str]) -> str:
        cells = [" "] * _BAR
        for begin_ms, end_ms, mark in parts:
            first = min(_BAR - 1, max(0, int(begin_ms / whole_ms * _BAR)))
            last = min(_BAR, max(first + 1, round(end_ms / whole_ms * _BAR)))
            cells[first:last] = mark * (last - first)
        return "".join(cells)

    if queued := timeline.get("queued"):
        yield "in line", bar((queued[0], queued[0] + queued[1], _LINE)), ""
    for number, attempt in enumerate(timeline.get("attempts", ()), 1):
        opened = float(attempt.get("opened_ms", 0))
        ended = float(attempt.get("ended_ms", whole_ms))
        first = attempt.get("first_ms")
        waits = (opened, ended if first is None else float(first), _WAITS)
        flows = () if first is None else ((float(first), ended, _FLOWS),)
        label = f"{number} {attempt.get('backend', '')}"
        yield (
            (label if len(label) <= _LABEL else label[: _LABEL - 1] + "…"),
            bar(waits, *flows),
            attempt.get("outcome", ""),
        )
    if pauses := timeline.get("pauses"):
        yield "paused", bar(*((at, at + length, _PAUSED) for at, length in pauses)), ""
    if readers := timeline.get("readers"):
        read, since = [], 0.0
        for at, what in readers:
            if what == "left":
                read.append((since, float(at), _READS))
                since = whole_ms
            elif what == "resumed":
                since = float(at)
        read.append((since, whole_ms, _READS))
        marks = [(float(at), float(at), "◆") for at, what in readers if what == "taken_over"]
        yield "reader", bar(*(part for part in read if part[1] > part[0]), *marks), ""


def _points(fields: dict[str, Any], timeline: dict[str, Any], whole_ms: float) -> Iterator[_Point]:
    yield _Point(0.0, "the request was whole, and admitted")
    if "routed_ms" in timeline:
        yield _Point(timeline["routed_ms"], "routed")
    if queued := timeline.get("queued"):
        yield _Point(queued[0], f"all backends were full: it stood in line for {queued[1]:,.0f} ms")
    for number, one in enumerate(timeline.get("attempts", ()), 1):
        why = "" if one.get("why") == "first" else f" ({one.get('why')})"
        yield _Point(
            one.get("opened_ms", 0.0), f"attempt {number}{why} at {one.get('backend')} for {one.get('model')}"
        )
        for name, words in (("sent_ms", "was sent"), ("first_ms", "had its first event")):
            if name in one:
                yield _Point(one[name], f"attempt {number} {words}")
        if "ended_ms" in one:
            code = f": {one['code']}" if one.get("code") else ""
            yield _Point(one["ended_ms"], f"attempt {number} {one.get('outcome', 'ended')}{code}")
    for at, length in timeline.get("pauses", ()):
        yield _Point(at, f"the reader was slow: the backend paused for {length:,.0f} ms")
    for at, what in timeline.get("readers", ()):
        yield _Point(at, _READERS.get(what, what))
    error = f": {fields['error']}" if fields.get("error") else ""
    yield _Point(whole_ms, f"{fields.get('outcome', 'ended')}{error}")
