"""The edge: what its clients feel, and what makes it so."""

from __future__ import annotations

from typing import Final

from dashboards.pages.readers import READERS, WORK
from dashboards.panel import Page, Panel, Query, Row
from dashboards.query import heat, level, percentiles, quantile, rate, worst
from streamkit.ops import catalog

__all__ = ["EDGE"]

MODEL: Final = "gen_ai_request_model"


_FELT: Final = Row(
    "What clients feel",
    (
        Panel(
            title="Time to first token",
            unit="s",
            queries=percentiles(catalog.STREAM_TTFT, 0.5, 0.95, 0.99),
            what="From the request's last byte to the first event written. Compare with the engines' own, below.",
        ),
        Panel(
            title="Time to first token by model, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.STREAM_TTFT, MODEL), "{{gen_ai_request_model}}"),),
            what="One slow model hides in the sum of all.",
        ),
        Panel(
            title="Time to first token, all of them",
            unit="s",
            queries=heat(catalog.STREAM_TTFT),
            what="Two bands are two kinds of requests, or two backends; a quantile lies between them.",
            drawn="heat",
        ),
        Panel(
            title="Gap between events",
            unit="s",
            queries=percentiles(catalog.STREAM_GAP, 0.5, 0.99),
            what="Every gap of every stream.",
        ),
        Panel(
            title="Longest gap of each stream",
            unit="s",
            queries=percentiles(catalog.STREAM_LONGEST_GAP, 0.5, 0.95, 0.99),
            what="What a reader feels as a stall; the mean per token, beside it, hides it.",
        ),
        Panel(
            title="Longest gap, all of them",
            unit="s",
            queries=heat(catalog.STREAM_LONGEST_GAP),
            what="A band far above the others is a stall that some streams had.",
            drawn="heat",
        ),
        Panel(
            title="Jitter of each stream",
            unit="s",
            queries=percentiles(catalog.STREAM_JITTER, 0.5, 0.95),
            what="Standard deviation of a stream's gaps.",
        ),
        Panel(
            title="Time per output token",
            unit="s",
            queries=percentiles(catalog.STREAM_PER_TOKEN, 0.5, 0.95),
            what="A mean for each stream, then the quantile over streams.",
        ),
        Panel(
            title="Whole answers",
            unit="s",
            queries=percentiles(catalog.STREAM_DURATION, 0.5, 0.95),
            what="From the request's last byte to the end of the answer.",
        ),
        Panel(
            title="Requests by outcome",
            unit="reqps",
            queries=(Query(rate(catalog.STREAMS, "outcome"), "{{outcome}}"),),
            what="cancelled = the client left, or was lost.",
            stacked=True,
        ),
        Panel(
            title="Requests by transport",
            unit="reqps",
            queries=(Query(rate(catalog.REQUESTS, "operation", "transport"), "{{operation}} by {{transport}}"),),
            what="json: whole answers.",
            stacked=True,
        ),
        Panel(
            title="Failures by code",
            unit="reqps",
            queries=(Query(rate(catalog.STREAMS, "code", where='outcome="failed"'), "{{code}}"),),
            what="saturated, evicted: shed, see the queue. backend_*, stream_*: an engine; see its log.",
        ),
        Panel(
            title="Refused at the door by code",
            unit="reqps",
            queries=(Query(rate(catalog.REFUSED, "code"), "{{code}}"),),
            what="Nothing was spent on them: bad requests, keys, quotas, models without a backend.",
        ),
    ),
)
_WHY: Final = Row(
    "Why: engines, and the wait for them",
    (
        Panel(
            title="Added by the edge",
            unit="s",
            queries=percentiles(catalog.ADDED_DELAY, 0.5, 0.99),
            what="TTFT less the engine's own and less the wait in line: ours alone. Promised: p50 1 ms, p99 5 ms.",
        ),
        Panel(
            title="Engines' time to first chunk, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.ATTEMPT_FIRST_CHUNK, "backend"), "{{backend}}"),),
            what="The same moment as TTFT, seen from the engine's side.",
        ),
        Panel(
            title="Engines' gap between chunks, p99",
            unit="s",
            queries=(Query(quantile(0.99, catalog.ATTEMPT_PER_CHUNK, "backend"), "{{backend}}"),),
            what="A stall above comes from here, or from slow readers.",
        ),
        Panel(
            title="Attempts, p95 of their length",
            unit="s",
            queries=(Query(quantile(0.95, catalog.ATTEMPT_DURATION, "backend"), "{{backend}}"),),
            what="A slot is held for so long.",
        ),
        Panel(
            title="Requests in line",
            unit="short",
            queries=(Query(level(catalog.QUEUE_WAITING), "waiting"),),
            what="All permits of their backends are taken.",
        ),
        Panel(
            title="Wait in line, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.QUEUE_WAIT, "ending"), "{{ending}}"),),
            what="granted waited and was served; expired became a 429.",
        ),
        Panel(
            title="In flight by backend",
            unit="short",
            queries=(Query(level(catalog.ATTEMPTS_INFLIGHT, "backend"), "{{backend}}"),),
            what="Permits held; each is given back when the engine's body has ended.",
            stacked=True,
        ),
        Panel(
            title="Attempts by outcome",
            unit="reqps",
            queries=(Query(rate(catalog.ATTEMPTS, "backend", "outcome"), "{{backend}} {{outcome}}"),),
            what="More attempts than requests: retries and hedges.",
        ),
        Panel(
            title="Second attempts",
            unit="reqps",
            queries=(
                Query(rate(catalog.RETRIES, "why"), "retry: {{why}}"),
                Query(rate(catalog.HEDGES, "outcome"), "hedge: {{outcome}}"),
                Query(rate(catalog.CONTINUATIONS, "outcome"), "continuation: {{outcome}}"),
                Query(rate(catalog.EVICTIONS, "where"), "eviction: {{where}}"),
            ),
            what="What the edge did so that clients would not notice.",
        ),
        Panel(
            title="Breakers open",
            unit="bool",
            queries=(Query(worst(catalog.BREAKER_OPEN, "backend"), "{{backend}}"),),
            what="1: nothing is sent to it until a probe succeeds.",
        ),
        Panel(
            title="Connections to engines",
            unit="short",
            queries=(Query(level(catalog.UPSTREAM_CONNECTIONS, "backend", "state"), "{{backend}} {{state}}"),),
            what="Idle ones are closed before the engine does it.",
        ),
    ),
)
EDGE: Final = Page("edge", "Headrace · Edge", (_FELT, _WHY, READERS, WORK), of=catalog.STREAMS_OPEN.name)
