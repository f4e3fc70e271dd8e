"""All processes side by side, and what control knows of them."""

from __future__ import annotations

from typing import Final

from dashboards.panel import Page, Panel, Query, Row
from dashboards.query import INTERVAL, level, quantile, rate, worst
from streamkit.ops import catalog

__all__ = ["FLEET"]

_AT: Final = '{instance=~"$instance"}'

_PROCESSES: Final = Row(
    "Processes",
    (
        Panel(
            title="Up",
            unit="bool",
            queries=(Query(f"min by (job, instance) (up{_AT})", "{{job}} {{instance}}"),),
            what="0: Prometheus cannot scrape it.",
        ),
        Panel(
            title="Cores used",
            unit="short",
            queries=(
                Query(
                    f"sum by (job, instance) (rate(process_cpu_seconds_total{_AT}[{INTERVAL}]))",
                    "{{job}} {{instance}}",
                ),
            ),
            what="A process has one loop and so one core: near 1 it is full. More edges: `workers`.",
        ),
        Panel(
            title="Resident memory",
            unit="bytes",
            queries=(Query(f"sum by (job, instance) (process_resident_memory_bytes{_AT})", "{{job}} {{instance}}"),),
            what="Flat under steady load, or something leaks.",
        ),
        Panel(
            title="Open files",
            unit="short",
            queries=(Query(f"sum by (job, instance) (process_open_fds{_AT})", "{{job}} {{instance}}"),),
            what="A stream is two sockets.",
        ),
        Panel(
            title="Tasks",
            unit="short",
            queries=(Query(level(catalog.TASKS, "instance"), "{{instance}}"),),
            what="One for each open request, none for a token.",
        ),
        Panel(
            title="Label sets folded, spans lost",
            unit="ops",
            queries=(
                Query(rate(catalog.SERIES_FOLDED), "counted as `other`"),
                Query(rate(catalog.SPANS, "outcome"), "spans {{outcome}}"),
            ),
            what="Both stay at 0, or a metric has run out of series, or the traces' receiver is away.",
        ),
    ),
)
_EDGES: Final = Row(
    "Edges",
    (
        Panel(
            title="Streams by edge",
            unit="short",
            queries=(Query(level(catalog.STREAMS_OPEN, "instance"), "{{instance}}"),),
            what="Uneven: connections outlive a rollout; new ones even it out.",
            stacked=True,
        ),
        Panel(
            title="Time to first token by edge, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.STREAM_TTFT, "instance"), "{{instance}}"),),
            what="One slow edge hides in the sum of all.",
        ),
        Panel(
            title="Events by edge",
            unit="ops",
            queries=(Query(rate(catalog.STREAM_EVENTS, "instance"), "{{instance}}"),),
            what="About a token each.",
            stacked=True,
        ),
    ),
)
_CONTROL: Final = Row(
    "Control",
    (
        Panel(
            title="Edges alive",
            unit="short",
            queries=(
                Query(worst(catalog.CONTROL_EDGES), "edges"),
                Query(level(catalog.CONTROL_WAITING), "polls held"),
            ),
            what="Each edge holds one poll for news.",
        ),
        Panel(
            title="Backends healthy",
            unit="bool",
            queries=(Query(worst(catalog.BACKEND_UP, "backend"), "{{backend}}"),),
            what="By control's own probes.",
        ),
        Panel(
            title="Route answers",
            unit="ops",
            queries=(Query(rate(catalog.CONTROL_ANSWERS, "outcome"), "{{outcome}}"),),
            what="A few a second, whatever the traffic: edges cache them.",
            stacked=True,
        ),
        Panel(
            title="Control's work",
            unit="ops",
            queries=(
                Query(rate(catalog.CONTROL_SYNCS), "polls answered"),
                Query(rate(catalog.CONTROL_REFUSED), "refused"),
                Query(rate(catalog.CONTROL_PROBES, "result"), "probes {{result}}"),
                Query(rate(catalog.CONTROL_STORE_ERRORS), "key store errors"),
            ),
            what="refused: somebody asks without the secret.",
        ),
        Panel(
            title="Words of arbiters",
            unit="ops",
            queries=(Query(rate(catalog.CONTROL_SIGNALS, "result"), "{{result}}"),),
            what="claimed: two arbiters speak for one host.",
        ),
        Panel(
            title="Arbiters last heard",
            unit="s",
            queries=(Query(worst(catalog.ARBITER_AGE, "host"), "{{host}}"),),
            what="Older than a second: stale, and not believed where a fresh alternative exists.",
        ),
    ),
)

_HUB: Final = "a hub that gathers from sites"
_OBSERVE: Final = Row(
    "Events, probes, healing",
    (
        Panel(
            title="Events on their way",
            unit="short",
            queries=(
                Query(level(catalog.EVENTS_WAITING), "wait for the broker"),
                Query(level(catalog.STREAM_LAG), "not gathered by the hub"),
                Query(level(catalog.USAGE_BEHIND), "not counted"),
            ),
            what="Near 0. What waits is safe until the spool is full.",
            lacks=_HUB,
        ),
        Panel(
            title="Events gathered",
            unit="ops",
            queries=(
                Query(rate(catalog.EVENTS_TAKEN, "feed"), "read from {{feed}}"),
                Query(rate(catalog.EVENTS_STORED), "stored"),
                Query(rate(catalog.USAGE_COUNTED), "counted as usage"),
            ),
            what="All three follow the requests.",
        ),
        Panel(
            title="Events kept",
            unit="bytes",
            queries=(
                Query(level(catalog.STREAM_BYTES, "stream"), "{{stream}}"),
                Query(level(catalog.EVENTS_SPOOLED), "in the spool"),
            ),
            what="Bounded by `stream_bytes` and `spool_bytes`.",
            stacked=True,
        ),
        Panel(
            title="Feeds read",
            unit="bool",
            queries=(Query(worst(catalog.FEEDS_CONNECTED, "feed"), "{{feed}}"),),
            what="0: its service is away, or its ops address is another one.",
        ),
        Panel(
            title="Probes by result",
            unit="ops",
            queries=(Query(rate(catalog.PROBES, "edge", "backend", "result"), "{{edge}} {{backend}} {{result}}"),),
            what="One for each path every `every_ms`.",
        ),
        Panel(
            title="Events lost",
            unit="ops",
            queries=(Query(rate(catalog.EVENTS_LOST, "where"), "{{where}}"),),
            what="Stays at 0: whoever should have read or stored them was away for too long.",
        ),
        Panel(
            title="Probes, first token, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.PROBE_TTFT, "edge", "backend"), "{{edge}} {{backend}}"),),
            what="Every path from an edge to a backend, whether anybody uses it or not.",
        ),
        Panel(
            title="Probes, longest gap, p95",
            unit="s",
            queries=(Query(quantile(0.95, catalog.PROBE_GAP, "edge", "backend"), "{{edge}} {{backend}}"),),
            what="High on one path only: that way is sick, not the backend.",
        ),
        Panel(
            title="Sick paths",
            unit="bool",
            queries=(Query(worst(catalog.PATH_SICK, "edge", "backend"), "{{edge}} {{backend}}"),),
            what="1: three probes in a row were bad. docs/operations/healing.md says what follows.",
        ),
        Panel(
            title="Healing acts",
            unit="ops",
            queries=(Query(rate(catalog.HEALING_ACTS, "act", "result"), "{{act}} {{result}}"),),
            what="Each is an event, too. refused: control knows of nobody else for a model.",
        ),
    ),
)

FLEET: Final = Page("fleet", "Headrace · Fleet", (_PROCESSES, _EDGES, _CONTROL, _OBSERVE), of=catalog.TASKS.name)
