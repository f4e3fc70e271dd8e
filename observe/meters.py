"""The figures of the observability centre, read at a scrape."""

from __future__ import annotations

from collections.abc import Iterable

from observe.collector import Counts
from observe.counting import Counting
from observe.gathering import Gathering
from observe.publisher import Publisher
from observe.spool import Spool
from streamkit.ops import catalog
from streamkit.ops.jetstream import JetLink
from streamkit.ops.metrics import Metrics

__all__ = ["watch", "watch_counting", "watch_streams"]

Rows = Iterable[tuple[tuple[str, ...], float]]


def watch(metrics: Metrics, link: JetLink, spool: Spool, publisher: Publisher, counts: Counts) -> None:
    """Show where events are on their way."""

    def lost() -> Rows:
        yield ("feed",), float(counts.lost)
        yield ("spool",), float(spool.dropped)
        yield ("refused",), float(counts.refused + publisher.refused)

    metrics.watch(catalog.NATS_CONNECTED, lambda: [((), float(link.connected))])
    metrics.watch(catalog.EVENTS_TAKEN, lambda: [((name,), float(n)) for name, n in counts.taken.items()])
    metrics.watch(catalog.FEEDS_CONNECTED, lambda: [((name,), float(on)) for name, on in counts.connected.items()])
    metrics.watch(catalog.EVENTS_STORED, lambda: [((), float(publisher.stored))])
    metrics.watch(catalog.EVENTS_LOST, lost)
    metrics.watch(catalog.EVENTS_WAITING, lambda: [((), float(len(spool)))])
    metrics.watch(catalog.EVENTS_SPOOLED, lambda: [((), float(spool.size_bytes))])


def watch_streams(metrics: Metrics, gathering: Gathering) -> None:
    """Show what the broker keeps."""
    figures = gathering.figures

    def lag() -> Rows:
        for found in figures.values():
            total = sum(source.lag for source in found.sources)
            if found.sources:
                yield (), float(total)

    metrics.watch(catalog.STREAM_BYTES, lambda: [((name,), float(one.bytes)) for name, one in figures.items()])
    metrics.watch(catalog.STREAM_MESSAGES, lambda: [((name,), float(one.messages)) for name, one in figures.items()])
    metrics.watch(catalog.STREAM_LAG, lag)


def watch_counting(metrics: Metrics, counting: Counting) -> None:
    """Show how far usage is counted."""
    metrics.watch(catalog.USAGE_COUNTED, lambda: [((), float(counting.counted))])
    metrics.watch(catalog.USAGE_BEHIND, lambda: [((), float(counting.behind))])
