"""Events as they are kept: one envelope, one subject for each kind, one id by which a second copy is known.

Ages cross the wire elsewhere (law 9); an event is kept for days and read on other machines, so it carries the wall
clock of the machine where it happened.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

__all__ = [
    "CENTRAL",
    "EVENTS",
    "KIND",
    "SITE",
    "Event",
    "Spent",
    "SpentState",
    "day_of",
    "month_of",
    "spent_subject",
    "subject",
    "subjects",
]

#: The stream of one site's events, in the JetStream domain that is called as the site is.
EVENTS: Final = "EVENTS"
#: The stream at the hub that gathers all sites' events.
CENTRAL: Final = "CENTRAL"
SITE: Final = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
#: What happened: words with dots between them, noun first.
KIND: Final = r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*"
_KIND: Final = re.compile(KIND)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at a site."""

    #: Made by the process that told it, and by nobody twice: its life and a number.
    id: str
    kind: str
    site: str
    #: Which service told it: `edge`, `control`, `arbiter`, `observe`.
    source: str
    #: Milliseconds since 1970, by the clock of that machine.
    at_ms: int
    fields: dict[str, Any]


def subject(site: str, kind: str) -> str:
    """Return the NATS subject of a kind of event at a site.

    Raises:
        ValueError: the kind would not be one.
    """
    if _KIND.fullmatch(kind) is None:
        raise ValueError(f"not a kind of event (words of a-z, 0-9 and _ with dots between them): {kind!r}")
    return f"headrace.events.{site}.{kind}"


def subjects(site: str = "*", kind: str = "") -> str:
    """Return the pattern of a site's subjects, or of all; of one family of kinds, or of all."""
    return f"headrace.events.{site}.{kind}.>" if kind else f"headrace.events.{site}.>"


def day_of(moment: datetime) -> int:
    """Return the UTC day of a moment, in days since 1970."""
    return int(moment.astimezone(UTC).timestamp() // 86_400)


def month_of(moment: datetime) -> int:
    """Return the UTC month of a moment, in months since 1970."""
    in_utc = moment.astimezone(UTC)
    return (in_utc.year - 1970) * 12 + in_utc.month - 1


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that one payer has used."""

    #: `tenant:NAME` or `key:ID`.
    payer: str
    day: int
    month: int


class SpentState(msgspec.Struct, frozen=True, kw_only=True):
    """What every payer with a budget has used so far; written by whoever keeps the tally, once a second."""

    #: The day that it was counted for, in days since 1970 (UTC), and the month, in months since then.
    day: int
    month: int
    spent: tuple[Spent, ...] = ()


def spent_subject(site: str = "*") -> str:
    """Return the NATS subject on which a tally tells what was spent."""
    return f"headrace.state.spent.{site}"
