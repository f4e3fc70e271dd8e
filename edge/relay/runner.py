"""What a leg tells whoever runs it, and the deadlines it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from edge.protocol.refusals import Verdict
from edge.streams.contracts import Outcome
from streamkit.wire.errors import HeadraceError

if TYPE_CHECKING:
    from edge.relay.leg import Leg

__all__ = ["LegTimings", "Runner"]


class LegTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of one attempt, in seconds."""

    first_event_s: float
    idle_s: float
    response_s: float


class Runner(Protocol):
    """Who runs the legs of one request."""

    def flowing(self, leg: Leg) -> None:
        """The first event is here; from now on the leg feeds the stream itself."""

    def answered(self, leg: Leg, outcome: Outcome) -> None:
        """A whole, successful, non-streaming answer."""

    def refused(self, leg: Leg, verdict: Verdict, outcome: Outcome | None, *, free: bool) -> None:
        """The attempt failed before any first event. `free`: a stale connection, whose retry costs no budget."""

    def broke(self, leg: Leg, error: HeadraceError, frame: bytes | None) -> bool:
        """The answer broke off after its first event; True = the runner ends the stream, or has somebody go on."""

    def settled(self, leg: Leg) -> None:
        """The upstream is over and everything is given back; the last call."""
