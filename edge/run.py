"""The edge's composition root: settings in, one serving process out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from edge.app import EdgeApp
from edge.endpoints.access import Access
from edge.endpoints.parts import OpenStreams, Parts
from edge.relay.backends import Backends
from edge.relay.relay import RelaySettings
from edge.relay.runner import LegTimings
from edge.routing.routes import Routes
from edge.routing.state import HttpStateSource
from edge.server.protocol import protocol_class
from edge.settings import EdgeSettings
from edge.streams.meters import StreamMetersCache
from streamkit.flow.breaker import BreakerPolicy, BreakerState
from streamkit.flow.budget import Budget
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog, log
from streamkit.ops.events import EventFeed
from streamkit.ops.health import ops_app
from streamkit.ops.http_client import HttpClient
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.wire.ids import Instance, node_name
from streamkit.wire.state import EdgeReport, Header, Snapshot

__all__ = ["Edge", "composed", "main"]

_LOG = logging.getLogger("headrace.edge")


def main(settings: EdgeSettings, *, ready_file: str | None = None) -> int:
    """Run one edge process until it is told to stop; return its exit status."""
    log.configure("edge")
    return run(lambda: _main(settings, ready_file))


async def _main(settings: EdgeSettings, ready_file: str | None) -> int:
    async with composed(settings) as edge:
        return await edge.serve(ready_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One edge, put together and not yet serving."""

    parts: Parts
    lifecycle: Lifecycle
    public: Listener
    ops: Listener

    async def serve(self, ready_file: str | None = None) -> int:
        """Serve until a signal, or `lifecycle`, ends it; return the exit status."""
        return await serve(
            name="edge",
            kind="edge",
            public=self.public,
            ops=self.ops,
            lifecycle=self.lifecycle,
            ready_file=ready_file,
        )


@contextlib.asynccontextmanager
async def composed(settings: EdgeSettings) -> AsyncIterator[Edge]:
    """Put one edge together from its settings."""
    instance = Instance.new(settings.node or node_name())
    metrics = Metrics()
    memory = Budget(settings.memory_bytes)
    feed = EventFeed()
    streams = OpenStreams()
    access = Access(lambda: state.age_ms)
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    lifecycle.idle = streams.idle

    def breaker_changed(backend: str, state: BreakerState) -> None:
        log.event(_LOG, "breaker", level=logging.WARNING, backend=backend, state=state.value)
        feed.publish("breaker", {"backend": backend, "state": state.value})

    async with HttpClient() as http:
        backends = Backends(
            pool_settings=settings.pool_settings(),
            limits=settings.engine_limits(),
            policy=BreakerPolicy(
                failures=settings.breaker_failures,
                open_ms=settings.breaker_open_ms,
                open_cap_ms=8 * settings.breaker_open_ms,
            ),
            answers=memory.account("answers"),
            metrics=metrics,
            on_breaker=breaker_changed,
        )
        routes = Routes(http, settings.control_url, timeout_ms=settings.route_timeout_ms, metrics=metrics)

        def news(snapshot: Snapshot) -> None:
            routes.changed()
            access.update(snapshot.keys)

        def report() -> EdgeReport:
            return EdgeReport(
                header=Header(instance=str(instance), sequence=0),
                region=settings.region,
                streams=streams.count,
                draining=lifecycle.draining,
                inflight=backends.inflight_by_name(),
            )

        state = HttpStateSource(
            http, settings.control_url, report=report, wait_ms=settings.sync_wait_ms, on_change=news
        )
        parts = Parts(
            access=access,
            routes=routes,
            state=state,
            backends=backends,
            budget=RetryBudget(),
            bodies=memory.account("bodies"),
            timings=settings.stream_timings(),
            relay=RelaySettings(
                max_attempts=settings.max_attempts,
                finish_grace_s=settings.finish_grace_ms / 1000,
                legs=LegTimings(
                    first_event_s=settings.first_event_ms / 1000,
                    idle_s=settings.idle_ms / 1000,
                    response_s=settings.response_ms / 1000,
                ),
            ),
            metrics=metrics,
            meters=StreamMetersCache(metrics),
            feed=feed,
            streams=streams,
            region=settings.region,
            max_body_bytes=settings.max_body_bytes,
            write_high_bytes=settings.write_high_bytes,
        )
        _watch(metrics, parts, memory)
        syncing: list[asyncio.Task[None]] = []

        async def start() -> None:
            syncing.append(asyncio.create_task(state.run(), name="sync"))

        async def stop() -> None:
            for task in syncing:
                task.cancel()
            await asyncio.gather(*syncing, return_exceptions=True)
            routes.close()
            backends.close()

        def control_heard() -> str | None:
            return None if state.snapshot is not None else "control has not answered yet"

        yield Edge(
            parts=parts,
            lifecycle=lifecycle,
            public=Listener(
                app=EdgeApp(parts, start=start, stop=stop),
                host=settings.host,
                port=settings.port,
                http=protocol_class(settings.server_limits()),
                keep_alive_ms=settings.keep_alive_ms,
            ),
            ops=Listener(
                app=ops_app(lifecycle, metrics=metrics.exposition, checks={"control": control_heard}, feed=feed),
                host=settings.host,
                port=settings.ops_port,
            ),
        )


def _watch(metrics: Metrics, parts: Parts, memory: Budget) -> None:
    """Register what is read at a scrape."""

    def open_streams() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((), float(parts.streams.count))]

    def buffered() -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(used)) for name, used in memory.accounts.items()]

    def control_age() -> Iterable[tuple[tuple[str, ...], float]]:
        age_ms = parts.state.age_ms
        return [] if age_ms is None else [((), age_ms / 1000)]

    metrics.watch(catalog.STREAMS_OPEN, open_streams)
    metrics.watch(catalog.BUFFERED, buffered)
    metrics.watch(catalog.CONTROL_AGE, control_age)
