"""The books of a request, written once when it is over: its counters, its one canonical line, its one event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from edge.endpoints.parts import Parts
from edge.endpoints.timeline import timeline
from edge.relay.relay import Relay
from streamkit.ops import catalog, log

if TYPE_CHECKING:
    from edge.endpoints.admission import Admitted

__all__ = ["settle"]

_LOG = logging.getLogger("headrace.edge.stream")


def settle(parts: Parts, admitted: Admitted, relay: Relay, now: float) -> None:
    """Count and log the end of a request.

    Args:
        parts: the edge.
        admitted: the request.
        relay: what became of it upstream.
        now: `monotonic()` of its end.
    """
    stream, meters, began = admitted.stream, admitted.meters, admitted.asked.began
    probe = admitted.call.probe
    outcome = stream.state.value.lower()
    code = stream.error.code.value if stream.error is not None else ""
    first_at = stream.first_s
    if stream.cause and not probe:
        phase = "first_event" if not first_at else "flowing"
        parts.metrics.counter(catalog.DISCONNECTS, phase, stream.cause).value += 1
    meters.ended(outcome, code, now - began)
    parts.metrics.counter(catalog.REQUESTS, meters.operation, admitted.asked.transport).value += 1
    meters.events.value += stream.events
    stream.settle(meters)
    tokens = relay.usage.completion_tokens if relay.usage is not None else None
    if first_at:
        meters.added.observe(max(0.0, first_at - began - relay.queued_s - relay.first_chunk_s))
        later = (tokens or stream.events) - 1
        if later > 0:
            meters.per_token.observe((now - first_at) / later)
    if stream.paused_s and not probe:
        meters.paused.observe(stream.paused_s)
    fields: dict[str, Any] = {
        "request_id": stream.request_id,
        "trace_id": admitted.trace.id if admitted.trace is not None else None,
        "operation": admitted.call.operation.value,
        "model": admitted.call.model,
        "served_model": relay.model or None,
        "stream": admitted.call.stream,
        "transport": admitted.asked.transport,
        "backend": relay.served_by.name if relay.served_by is not None else None,
        "tenant": admitted.asked.caller.tenant.name,
        "key_id": admitted.asked.caller.key_id or None,
        "outcome": outcome,
        "code": code or None,
        "lost": stream.cause or None,
        "error": stream.error.message if stream.error is not None else None,
        "priority": admitted.asked.caller.priority,
        "attempts": relay.attempts,
        "queued_ms": round(relay.queued_s * 1000, 2) or None,
        "events": stream.events,
        "resumes": admitted.kept.resumes if admitted.kept is not None else None,
        "prompt_tokens": relay.usage.prompt_tokens if relay.usage is not None else None,
        "completion_tokens": tokens,
        "ttft_ms": round((first_at - began) * 1000, 2) if first_at else None,
        "jitter_ms": round(jitter_s * 1000, 2) if (jitter_s := stream.jitter_s) is not None else None,
        "longest_gap_ms": round(stream.longest_s * 1000, 2) if first_at else None,
        "paused_ms": round(stream.paused_s * 1000) or None,
        "slot_s": round(relay.trail.slot_s, 4),
        "duration_ms": round((now - began) * 1000, 2),
    }
    if admitted.trace is not None:
        admitted.trace.end(now, fields, "" if outcome == "finished" else code or outcome)
    name = "probe.end" if probe else "stream.end"
    log.event(_LOG, name, level=logging.DEBUG if probe else logging.INFO, **fields)
    told = {key: value for key, value in fields.items() if value is not None}
    parts.feed.publish(name, {**told, "timeline": timeline(admitted, relay)})
