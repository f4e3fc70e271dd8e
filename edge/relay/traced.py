"""The spans of one sampled request: the stream, its wait in line, and each attempt, whose engine is told of it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from streamkit.ops.traces import Span, Trace

if TYPE_CHECKING:
    from edge.relay.leg import Leg

__all__ = ["Headers", "RequestTrace"]

Headers = tuple[tuple[bytes, bytes], ...]


class RequestTrace:
    """Spans by OpenTelemetry's conventions for generative AI; no text, no keys.

    Args:
        trace: of the request.
        operation: `gen_ai.operation.name`.
    """

    __slots__ = ("_attempts", "_operation", "_trace")

    def __init__(self, trace: Trace, operation: str) -> None:
        self._trace = trace
        self._operation = operation
        self._attempts: dict[Leg, tuple[Span, int]] = {}

    @property
    def id(self) -> str:
        """The trace's id, 32 hex digits."""
        return self._trace.id

    def attempt(self, leg: Leg, number: int, headers: Headers) -> Headers:
        """Begin the span of an attempt, and return the headers of its request: its engine's spans belong below it."""
        span = self._trace.child(f"{self._operation} {leg.candidate.model}", monotonic(), asks=True)
        self._attempts[leg] = (span, number)
        others = (header for header in headers if header[0] != b"traceparent")
        return (*others, (b"traceparent", span.traceparent))

    def settled(self, leg: Leg) -> None:
        """End the span of an attempt."""
        span, number = self._attempts.pop(leg)
        usage = leg.usage
        span.end(
            monotonic(),
            {
                "gen_ai.operation.name": self._operation,
                "gen_ai.provider.name": leg.candidate.engine,
                "gen_ai.request.model": leg.candidate.model,
                "gen_ai.response.time_to_first_chunk": leg.first_s or None,
                "gen_ai.usage.input_tokens": usage.prompt_tokens if usage is not None else None,
                "gen_ai.usage.output_tokens": usage.completion_tokens if usage is not None else None,
                "headrace.backend": leg.backend.name,
                "headrace.attempt": number,
                "headrace.outcome": leg.state.value.lower(),
            },
            error=leg.error_type,
        )

    def waited(self, since_s: float, seconds: float) -> None:
        """Add the wait in line."""
        self._trace.child("queue", since_s).end(since_s + seconds, {})

    def end(self, at_s: float, fields: dict[str, str | int | float | bool | None], error: str) -> None:
        """End the span of the whole.

        Args:
            at_s: `monotonic()` of the end.
            fields: of the canonical line.
            error: the code; empty = it ended well.
        """
        told = ("request_id", "transport", "backend", "outcome", "attempts", "queued_ms", "events", "lost")
        self._trace.root.end(
            at_s,
            {
                "gen_ai.operation.name": self._operation,
                "gen_ai.provider.name": "headrace",
                "gen_ai.request.model": fields["model"],
                "gen_ai.response.model": fields["served_model"],
                "gen_ai.usage.input_tokens": fields["prompt_tokens"],
                "gen_ai.usage.output_tokens": fields["completion_tokens"],
                **{f"headrace.{name}": fields[name] for name in told},
            },
            error=error,
        )
