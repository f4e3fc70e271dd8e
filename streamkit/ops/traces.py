"""Spans of a sampled few requests, by OTLP over HTTP: the only module that speaks OpenTelemetry, and it does so late.

Off by default. Whether a request is sampled is decided once, here, by a ratio of our own: by its trace id where its
client sent a `traceparent`, so that everybody who samples that way keeps the same traces. The client's own flag is
not asked, or a client could have everything traced. What is not sampled costs one comparison, and is forwarded as it
came.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span as SdkSpan

__all__ = ["Span", "Trace", "Tracer"]

#: W3C trace context, level 1: version, trace id, parent id, flags; further members of later versions are allowed.
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?\Z")
_NS: Final = 1_000_000_000
#: Spans that wait to be sent; a receiver that is away loses us spans, not memory.
_QUEUE: Final = 2_048
_EXPORT_S: Final = 2.0
_EVERY_MS: Final = 1_000
Attributes = Mapping[str, str | int | float | bool | None]


class Span:
    """One span that has begun."""

    __slots__ = ("_span", "_trace")

    def __init__(self, trace: Trace, span: SdkSpan) -> None:
        self._trace = trace
        self._span = span

    @property
    def traceparent(self) -> bytes:
        """What a request carries that is part of this span."""
        context = self._span.get_span_context()
        return b"00-%032x-%016x-01" % (context.trace_id, context.span_id)

    def end(self, at_s: float, attributes: Attributes, *, error: str = "") -> None:
        """End it.

        Args:
            at_s: `monotonic()` of the end.
            attributes: by OpenTelemetry's names; those that are None are left out.
            error: a word for what went wrong; empty = nothing did.
        """
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  loaded already, or there would be no span

        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name, value)
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end(end_time=self._trace.wall_ns(at_s))


class Trace:
    """What one process adds to one trace. Made by `Tracer.begin`."""

    __slots__ = ("_born_ns", "_root", "_tracer", "root")

    def __init__(self, tracer: Any, name: str, parent: tuple[int, int] | None, at_s: float) -> None:
        from opentelemetry import trace as api  # noqa: PLC0415  loaded already by the tracer

        self._tracer = tracer
        # Both clocks are read once, so that what happened between two moments of a trace is monotonic time.
        self._born_ns = time.time_ns() - time.monotonic_ns()
        context = None
        if parent is not None:
            remote = api.SpanContext(*parent, is_remote=True, trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED))
            context = api.set_span_in_context(api.NonRecordingSpan(remote))
        span = tracer.start_span(name, context, kind=api.SpanKind.SERVER, start_time=self.wall_ns(at_s))
        self._root = api.set_span_in_context(span)
        #: The span of the whole.
        self.root = Span(self, span)

    @property
    def id(self) -> str:
        """The trace's id, 32 hex digits."""
        return self.root.traceparent[3:35].decode()

    def wall_ns(self, at_s: float) -> int:
        """Return the wall clock's nanoseconds at `monotonic()` = `at_s`."""
        return self._born_ns + int(at_s * _NS)

    def child(self, name: str, at_s: float, *, asks: bool = False) -> Span:
        """Begin a span below the whole.

        Args:
            name: what it is.
            at_s: `monotonic()` of its begin.
            asks: it waits for somebody else's answer.
        """
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  loaded already by the tracer

        kind = SpanKind.CLIENT if asks else SpanKind.INTERNAL
        return Span(self, self._tracer.start_span(name, self._root, kind=kind, start_time=self.wall_ns(at_s)))


class Tracer:
    """Samples, and sends spans to one receiver from a thread of its own.

    Args:
        url: of the receiver, the path `/v1/traces` included.
        ratio: of requests that are sampled, 0 to 1.
        service: `service.name`, such as `headrace-edge`.
        instance: `service.instance.id`.
        metrics: where spans are counted.
        key: of `url` in the configuration, for errors.

    Raises:
        SettingsError: the packages are not installed.
    """

    def __init__(self, url: str, ratio: float, *, service: str, instance: str, metrics: Metrics, key: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("opentelemetry"):
                raise
            text = f"{key}: the package {error.name} is missing: pip install 'headrace[traces]'"
            raise SettingsError(text) from None
        self._ratio = ratio
        self._below = int(ratio * 2**64)
        self._dice = random.Random()  # noqa: S311  sampling, no secret
        counting = _Counting(OTLPSpanExporter(endpoint=url, timeout=_EXPORT_S))
        resource = Resource({"service.name": service, "service.instance.id": instance})
        # What is left over at the end is sent by `close`, not by an exit handler.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                cast("SpanExporter", counting),
                max_queue_size=_QUEUE,
                schedule_delay_millis=_EVERY_MS,
                export_timeout_millis=_EXPORT_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("headrace")
        metrics.watch(catalog.SPANS, counting.rows)

    def begin(self, name: str, headers: Iterable[tuple[bytes, bytes]], at_s: float) -> Trace | None:
        """Begin the trace of a request, or return None: it is not sampled.

        Args:
            name: of its span.
            headers: that came with it, a `traceparent` perhaps among them.
            at_s: `monotonic()` of its begin.
        """
        found = next((_TRACEPARENT.match(value) for key, value in headers if key == b"traceparent"), None)
        if found is not None:
            trace_id, parent_id = int(found[1], 16), int(found[2], 16)
            if trace_id and parent_id:
                sampled = trace_id & 0xFFFF_FFFF_FFFF_FFFF < self._below
                return Trace(self._tracer, name, (trace_id, parent_id), at_s) if sampled else None
        return Trace(self._tracer, name, None, at_s) if self._dice.random() < self._ratio else None

    def close(self) -> None:
        """Send what is left, and stop; blocks for as long as the receiver takes, within its deadline."""
        self._provider.shutdown()


class _Counting:
    """An exporter that counts what becomes of spans; its calls come from the sending thread alone."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._exported = 0
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if result.name == "SUCCESS":
            self._exported += len(spans)
        else:
            self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def rows(self) -> list[tuple[tuple[str, ...], float]]:
        return [(("exported",), float(self._exported)), (("lost",), float(self._lost))]
