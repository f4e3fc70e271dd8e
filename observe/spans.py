"""From when to when: the slots of a stream's attempts, and what of a time falls into which hour. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from streamkit.wire.telemetry import Event

__all__ = ["HOUR_MS", "Slot", "held_ms", "hours", "slots"]

HOUR_MS: Final = 3_600_000
#: What claims to have lasted longer was timed by a clock that was set in between: the first hours are cut.
_LONGEST_MS: Final = 400 * 24 * HOUR_MS


class Slot(NamedTuple):
    """One attempt's permit of one backend, in milliseconds since 1970."""

    backend: str
    since_ms: int
    until_ms: int


def slots(event: Event) -> Iterator[Slot]:
    """Yield the slots that a `stream.end` tells of; an attempt that has not ended, or that is no figure, has none.

    The event's own moment is the end of the request, whose length and whose attempts are told by a clock that nobody
    sets.
    """
    timeline = event.fields.get("timeline")
    attempts = timeline.get("attempts") if isinstance(timeline, dict) else None
    found = [attempt for attempt in attempts if isinstance(attempt, dict)] if isinstance(attempts, list) else []
    ends = [_ms(attempt.get("ended_ms")) for attempt in found]
    whole = max([_ms(event.fields.get("duration_ms")), *ends])
    for attempt, ended in zip(found, ends, strict=True):
        opened = _ms(attempt.get("opened_ms"))
        if ended > opened:
            since_ms = event.at_ms - whole + opened
            yield Slot(str(attempt.get("backend", ""))[:256], since_ms, since_ms + ended - opened)


def held_ms(fields: Mapping[str, Any]) -> int | None:
    """Return how long a lease was held, by its arbiter's monotonic clock; None = its event does not tell."""
    return _ms(fields["held_s"] * 1000) if isinstance(fields.get("held_s"), int | float) else None


def hours(since_ms: int, until_ms: int) -> Iterator[tuple[int, int]]:
    """Yield the hours of a time, counted from 1970, with the milliseconds of each that are in it."""
    at = max(since_ms, until_ms - _LONGEST_MS)
    while at < until_ms:
        end = min(until_ms, (at // HOUR_MS + 1) * HOUR_MS)
        yield at // HOUR_MS, end - at
        at = end


def _ms(value: Any) -> int:
    return round(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0
