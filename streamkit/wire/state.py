"""Signals between services: one writer each, and every one carries version, instance, sequence and age (law 9).

`POST /v1/sync` is one exchange in both directions: an edge reports itself and gets what changed since `after`,
waiting up to `wait_ms` for news. It is how key snapshots are "pushed", and how control counts live edges.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from streamkit.wire.keys import KeySnapshot
from streamkit.wire.models import Alias
from streamkit.wire.telemetry import SpentState

__all__ = [
    "ARBITERS",
    "LEVELS",
    "STALE_MS",
    "STATE_VERSION",
    "Ailing",
    "ArbiterState",
    "BackendState",
    "EdgeReport",
    "Freshness",
    "Header",
    "Hold",
    "Pressure",
    "Residence",
    "Snapshot",
    "SyncRequest",
    "Want",
    "ailing_subject",
    "arbiter_subject",
    "freshness",
    "sheds",
    "want_subject",
]

STATE_VERSION = 1
#: A signal older than this is stale (design §5).
STALE_MS = 1_000
#: Cached route sets and keys serve this long without control.
CACHE_MS = 600_000

#: Where arbiters publish their state on NATS: one subject for each GPU host.
_ARBITER = "headrace.state.arbiter"
ARBITERS = f"{_ARBITER}.*"

Pressure = Literal["ok", "busy", "shedding", "down"]
#: From none to all.
LEVELS: tuple[Pressure, ...] = ("ok", "busy", "shedding", "down")


#: Where a model of an engine is; `no_room` = cold, and there is no memory for it now.
Residence = Literal["resident", "loading", "cold", "no_room"]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What every signal carries. Ages cross the wire, timestamps do not."""

    version: int = STATE_VERSION
    instance: str
    sequence: int
    age_ms: int = 0


def arbiter_subject(host: str) -> str:
    """Return the NATS subject of one GPU host's arbiter; a host's name has no dot (`[a-z0-9-]`)."""
    return f"{_ARBITER}.{host}"


def want_subject(host: str) -> str:
    """Return the NATS subject on which one GPU host's arbiter hears which models are wanted."""
    return f"headrace.want.arbiter.{host}"


def ailing_subject(host: str) -> str:
    """Return the NATS subject on which one GPU host's arbiter hears which of its backends are sick."""
    return f"headrace.ailing.arbiter.{host}"


class BackendState(msgspec.Struct, frozen=True, kw_only=True):
    """One backend as control's probes see it."""

    name: str
    health: Literal["up", "down", "unknown"]
    models: tuple[str, ...] = ()
    #: Milliseconds since the last finished probe.
    age_ms: int = 0
    detail: str = ""


class ArbiterState(msgspec.Struct, frozen=True, kw_only=True):
    """Pressure at one GPU host, written by its arbiter only: every 200 ms and on change."""

    header: Header
    host: str
    #: Pressure by backend name.
    pressure: dict[str, Pressure]
    #: Models by backend name, of engines that load and unload them.
    models: dict[str, dict[str, Residence]] = {}


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks for a model that is not resident; said again with each request, and never answered."""

    backend: str
    model: str


class Ailing(msgspec.Struct, frozen=True, kw_only=True):
    """A backend that is sick for its users, as a prober sees it; what is done about it is its arbiter's business."""

    backend: str
    #: A few words for a person.
    why: str = ""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A backend that gets no work from some edges, though it answers: a healing act, which edges carry out."""

    backend: str
    #: The node whose edges leave it alone; empty = all.
    node: str = ""
    why: str = ""
    #: How long it lasts without another word of whoever made it. An edge that does not hear control ends it by itself
    #: when control has been silent for so long; 0 = it does not.
    ttl_ms: int = 0


class EdgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge says of itself with every sync."""

    header: Header
    region: str = ""
    #: Where edges of other nodes reach it for streams that it owns; empty = nowhere.
    peer_url: str = ""
    #: The same for workers of its own node: path of a Unix socket; empty = nowhere.
    peer_socket: str = ""
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
    #: The sequence at which something changed that route answers depend on; 0 = ask anew whenever anything changed.
    routes: int = 0
    backends: tuple[BackendState, ...] = ()
    edges: tuple[EdgeReport, ...] = ()
    arbiters: tuple[ArbiterState, ...] = ()
    keys: KeySnapshot = KeySnapshot()
    #: Names that clients may ask for beside the models' own.
    aliases: tuple[Alias, ...] = ()
    #: What payers with budgets have used; None = nobody has told this control yet, which changes nothing.
    spent: SpentState | None = None
    holds: tuple[Hold, ...] = ()


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
