"""When things happened to one stream, for its one event: milliseconds since the request was whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.relay.relay import Relay

if TYPE_CHECKING:
    from edge.endpoints.admission import Admitted

__all__ = ["timeline"]


def timeline(admitted: Admitted, relay: Relay) -> dict[str, Any]:
    """Return the turning points of a stream; `headrace trace` draws them.

    Args:
        admitted: the request.
        relay: its attempts.
    """
    stream, kept, began = admitted.stream, admitted.kept, admitted.asked.began

    def since(at: float) -> float:
        return round((at - began) * 1000, 1)

    points: dict[str, Any] = {
        "routed_ms": since(admitted.routed_at),
        "attempts": [step.fields(began) for step in relay.trail.steps],
    }
    if relay.queued_s:
        points["queued"] = [since(relay.trail.queued_at), round(relay.queued_s * 1000, 1)]
    if stream.first_s:
        points["first_event_ms"] = since(stream.first_s)
    if stream.slow is not None and stream.slow.pauses:
        points["pauses"] = [[since(at), round(length_s * 1000, 1)] for at, length_s in stream.slow.pauses]
    if kept is not None and kept.turns:
        points["readers"] = [[since(at), what] for at, what in kept.turns]
    return points
