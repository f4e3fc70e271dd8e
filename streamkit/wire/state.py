"""Signals between services: one writer each, and every one carries version, instance, sequence and age (law 9).

`POST /v1/sync` is one exchange in both directions: an edge reports itself and gets what changed since `after`,
waiting up to `wait_ms` for news. It is how key snapshots are "pushed", and how control counts live edges.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from streamkit.wire.keys import KeySnapshot

__all__ = [
    "STATE_VERSION",
    "ArbiterState",
    "BackendState",
    "EdgeReport",
    "Freshness",
    "Header",
    "Pressure",
    "Snapshot",
    "SyncRequest",
    "freshness",
    "sheds",
]

STATE_VERSION = 1
#: A signal older than this is stale (design §5).
STALE_MS = 1_000
#: Cached route sets and keys serve this long without control.
CACHE_MS = 600_000

Pressure = Literal["ok", "busy", "shedding", "down"]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What every signal carries. Ages cross the wire, timestamps do not."""

    version: int = STATE_VERSION
    instance: str
    sequence: int
    age_ms: int = 0


class BackendState(msgspec.Struct, frozen=True, kw_only=True):
    """One backend as control's probes see it."""

    name: str
    health: Literal["up", "down", "unknown"]
    models: tuple[str, ...] = ()
    #: Milliseconds since the last finished probe.
    age_ms: int = 0
    detail: str = ""


class ArbiterState(msgspec.Struct, frozen=True, kw_only=True):
    """Memory pressure of one GPU host, written by its arbiter only."""

    header: Header
    host: str
    #: Pressure by backend name.
    pressure: dict[str, Pressure]


class EdgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge says of itself with every sync."""

    header: Header
    region: str = ""
    #: Where peers reach it for streams that it owns; empty = nowhere.
    peer_url: str = ""
    streams: int = 0
    draining: bool = False
    #: Requests in flight by backend name.
    inflight: dict[str, int] = {}


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sync`."""

    edge: EdgeReport
    #: The newest snapshot sequence that the edge holds; 0 = none.
    after: int = 0
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=30_000)] = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Control's whole state, small enough to send whole."""

    header: Header
    backends: tuple[BackendState, ...] = ()
    edges: tuple[EdgeReport, ...] = ()
    arbiters: tuple[ArbiterState, ...] = ()
    keys: KeySnapshot = KeySnapshot()


class Freshness(enum.Enum):
    """How much a signal can be trusted."""

    FRESH = "fresh"
    STALE = "stale"
    ABSENT = "absent"


def freshness(age_ms: int | None) -> Freshness:
    """Return the freshness of a signal of that age in milliseconds; None = there never was one."""
    if age_ms is None:
        return Freshness.ABSENT
    return Freshness.FRESH if age_ms <= STALE_MS else Freshness.STALE


def sheds(pressure: Pressure, age_ms: int | None, *, fresh_alternative: bool) -> bool:
    """Say whether sheddable work must avoid a backend: the arbiter's row of the staleness table (design §5).

    Fresh pressure is used as it is. Stale pressure counts as saturated while a fresh alternative exists, and as
    open otherwise. Without any signal the backend is open, and only the engine's own caps hold.
    """
    match freshness(age_ms):
        case Freshness.FRESH:
            return pressure in ("shedding", "down")
        case Freshness.STALE:
            return fresh_alternative
        case Freshness.ABSENT:
            return False
