"""An event as one line: everything it says for a file, what a person looks for in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from launch.event_log import plain
from launch.screen import Screen
from streamkit.wire.telemetry import Event

__all__ = ["brief", "line", "moment_of"]

#: Not for a line: `headrace trace` draws it, `--json` has it.
_LEFT_OUT: Final = frozenset({"timeline"})
#: Told without their names, because they are what the kind is about.
_ENDS: Final = ("stream.end", "probe.end")
_SHED: Final = "stream.shed"


class _Part(NamedTuple):
    """Words of a line; where it is too long the last ones are cut."""

    words: str
    paint: Callable[[str], str] = str


def moment_of(event: Event) -> datetime:
    """Return when it happened, in this machine's time."""
    return datetime.fromtimestamp(event.at_ms / 1000).astimezone()


def line(event: Event, screen: Screen) -> str:
    """Return an event as one line: when, where, what, and its fields."""
    moment = moment_of(event)
    clock = moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
    words = " ".join(_named(event.fields))
    return f"{screen.dim(clock)}  {event.site}  {event.source:8}  {screen.bold(event.kind)}  {words}"


def brief(event: Event, screen: Screen, width: int) -> str:
    """Return an event as one line of a terminal.

    Args:
        event: which one.
        screen: paints.
        width: columns; what has no room is cut, and `…` says so.
    """
    parts = [
        _Part(moment_of(event).strftime("%H:%M:%S"), screen.dim),
        _Part(event.site),
        _Part(event.kind, screen.bold),
        *_told(event, screen),
    ]
    gaps = 2 * (len(parts) - 1)
    fits = sum(len(part.words) for part in parts) + gaps <= width
    # Colours are no part of a line's width.
    room = width if fits else width - 1
    shown: list[str] = []
    for part in parts:
        gap = "  "[: room if shown else 0]
        words = part.words[: room - len(gap)]
        shown.append(gap + part.paint(words) if words else gap)
        room -= len(gap) + len(words)
    return "".join(shown) if fits else "".join(shown) + "…"


def _told(event: Event, screen: Screen) -> Iterator[_Part]:
    fields = event.fields
    if event.kind in _ENDS:
        yield from _ended(fields, screen)
    elif event.kind == _SHED:
        yield _Part(str(fields.get("code", "")), screen.red)
        yield _Part(str(fields.get("request_id", "")))
        yield _Part(str(fields.get("model", "")))
        yield _Part(f"tenant {fields.get('tenant', '')}")
        if left_out := fields.get("left_out"):
            yield _Part(f"and {left_out} more before it")
    else:
        yield from map(_Part, _named(fields))


def _ended(fields: Mapping[str, Any], screen: Screen) -> Iterator[_Part]:
    outcome = str(fields.get("outcome", ""))
    said = f"{outcome} {fields['code']}" if fields.get("code") else outcome
    yield _Part(said, screen.red if outcome == "failed" else str)
    yield _Part(str(fields.get("request_id", "")))
    if (ttft_ms := fields.get("ttft_ms")) is not None:
        yield _Part(f"ttft {_length(ttft_ms)}")
    if (tokens := fields.get("completion_tokens")) is not None:
        yield _Part(f"{tokens:,} tokens")
    if (duration_ms := fields.get("duration_ms")) is not None:
        yield _Part(f"{_length(duration_ms)}")
    served = fields.get("served_model") or fields.get("model") or fields.get("operation", "")
    yield _Part(f"{served} at {fields['backend']}" if fields.get("backend") else str(served))
    if fields.get("attempts", 1) > 1:
        yield _Part(f"{fields['attempts']} attempts")
    if fields.get("lost"):
        yield _Part(f"lost: {fields['lost']}", screen.red)
    if fields.get("tenant"):
        yield _Part(f"tenant {fields['tenant']}")


def _named(fields: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key}={plain(value)}" for key, value in fields.items() if key not in _LEFT_OUT)


def _length(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1_000 else f"{ms / 1000:,.1f} s"
