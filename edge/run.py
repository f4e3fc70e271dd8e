"""The edge's composition root: settings in, one serving process out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from edge.app import EdgeApp
from edge.endpoints.access import Access
from edge.endpoints.budgets import Budgets
from edge.endpoints.limits import TenantLimits
from edge.endpoints.parts import OpenStreams, Parts, Sockets
from edge.engines import means_of
from edge.exposure import check_exposure, control_headers, control_trust, exposed_at
from edge.faces import avatars_of
from edge.neighbours import Neighbours
from edge.protocol.cors import Cors
from edge.routing.holds import Holds, tell_hold
from edge.routing.routes import Routes
from edge.routing.state import HttpStateSource
from edge.scrape import watch
from edge.server.protocol import protocol_class
from edge.settings import EdgeSettings
from edge.streams.meters import StreamMetersCache
from edge.streams.shelf import Shelf
from edge.traces import tracer_of
from streamkit.flow.budget import Budget
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.health import ops_app
from streamkit.ops.http_client import HttpClient
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.tls import ServerTls
from streamkit.wire.ids import Instance, node_name
from streamkit.wire.state import EdgeReport, Header, Snapshot

__all__ = ["Edge", "Place", "composed", "main"]

_LOG = logging.getLogger("headrace.edge")
#: The longest that a new worker waits for control before it accepts all the same.
_HEAR_S = 5.0
#: Of a drain's time: so long streams run on that nobody reads. The rest is for their readers to come and see the end.
_UNREAD_PART = 0.8


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process stands among the workers of its node."""

    worker: int = 0
    #: Listening sockets inherited from the supervisor; empty = this process binds its own.
    fds: tuple[int, ...] = ()
    ops_fds: tuple[int, ...] = ()


def main(settings: EdgeSettings, *, ready_file: str | None = None, place: Place | None = None) -> int:
    """Run one edge process until it is told to stop; return its exit status.

    Raises:
        SettingsError: it must not listen where it was told to.
    """
    log.configure("edge" if place is None else f"edge.{place.worker}")
    if place is None:  # a supervisor has asked for all its workers
        check_exposure(settings)
    return run(lambda: _main(settings, ready_file, place or Place()))


async def _main(settings: EdgeSettings, ready_file: str | None, place: Place) -> int:
    async with composed(settings, place) as edge:
        return await edge.serve(ready_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One edge, put together and not yet serving."""

    parts: Parts
    lifecycle: Lifecycle
    public: Listener
    ops: Listener
    #: For other instances of the edge.
    inner: tuple[Listener, ...] = ()

    async def serve(self, ready_file: str | None = None) -> int:
        """Serve until a signal, or `lifecycle`, ends it; return the exit status."""
        return await serve(
            name="edge",
            kind="edge",
            public=self.public,
            ops=self.ops,
            inner=self.inner,
            lifecycle=self.lifecycle,
            ready_file=ready_file,
        )


@contextlib.asynccontextmanager
async def composed(settings: EdgeSettings, place: Place = Place()) -> AsyncIterator[Edge]:
    """Put one edge together from its settings."""
    instance = Instance.new(settings.node or node_name(), place.worker)
    metrics = Metrics()
    memory = Budget(settings.memory_bytes)
    feed = EventFeed()
    streams = OpenStreams()
    access = Access(lambda: state.age_ms, demanded=bool(exposed_at(settings)))
    cors = Cors(settings.cors_origins)
    files = settings.tls_files()
    tls = ServerTls(files) if files.named else None
    to_control = control_headers(settings)
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    neighbours = Neighbours(settings, instance, metrics)

    tracer = tracer_of(settings, str(instance), metrics)
    budgets = Budgets()
    holds = Holds(
        instance.node,
        silent_ms=lambda: (state.age_ms or 0.0) if state.away else 0.0,
        on_change=lambda hold, begun: tell_hold(feed, hold, begun=begun),
    )
    limits = TenantLimits(metrics, burst_ms=settings.rate_burst_ms)
    means = means_of(settings, memory, metrics, feed)
    backends = means.backends
    async with HttpClient(tls=control_trust(settings)) as http:
        routes = Routes(
            http, settings.control_url, timeout_ms=settings.route_timeout_ms, metrics=metrics, headers=to_control
        )

        heard = asyncio.Event()

        def news(snapshot: Snapshot) -> None:
            heard.set()
            routes.changed(snapshot.routes)
            access.update(snapshot.keys)
            limits.update(snapshot)
            budgets.update(snapshot)
            holds.update(snapshot)
            neighbours.update(snapshot)

        def report() -> EdgeReport:
            return EdgeReport(
                header=Header(instance=str(instance), sequence=0),
                region=settings.region,
                peer_url=neighbours.url,
                peer_socket=neighbours.socket,
                streams=streams.count,
                draining=lifecycle.draining,
                inflight=backends.inflight_by_name(),
            )

        state = HttpStateSource(
            http,
            settings.control_url,
            report=report,
            wait_ms=settings.sync_wait_ms,
            on_change=news,
            headers=to_control,
        )
        shelf = Shelf(neighbours.ids, settings.shelf_settings(), memory.account("rings"), metrics)
        parts = Parts(
            access=access,
            limits=limits,
            budgets=budgets,
            holds=holds,
            routes=routes,
            state=state,
            backends=backends,
            means=means,
            bodies=memory.account("bodies"),
            sockets=Sockets(
                limits=settings.socket_limits(),
                frames=memory.account("frames"),
                max_streams=settings.ws_max_streams,
                credit_bytes=settings.ws_credit_bytes,
            ),
            timings=settings.stream_timings(),
            metrics=metrics,
            meters=StreamMetersCache(metrics),
            feed=feed,
            streams=streams,
            shelf=shelf,
            peers=neighbours.peers,
            region=settings.region,
            max_body_bytes=settings.max_body_bytes,
            write_high_bytes=settings.write_high_bytes,
            tracer=tracer,
            cors=cors,
            client_token_s=settings.client_token_max_ms // 1000,
        )
        avatars = avatars_of(settings, parts, neighbours.ids)
        if avatars is not None:
            parts = replace(parts, avatars=avatars)
        watch(metrics, parts, memory)
        _prepare_drain(lifecycle, parts)
        syncing: list[asyncio.Task[None]] = []

        async def start() -> None:
            syncing.append(asyncio.create_task(state.run(), name="sync"))
            if avatars is not None:
                await avatars.start()
            if tls is not None:
                syncing.append(asyncio.create_task(tls.watch(), name="watch the certificate"))
            if place.fds:
                # Its neighbours serve meanwhile: a worker that cannot judge keys yet would only refuse.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEAR_S):
                        await heard.wait()

        async def stop() -> None:
            for task in syncing:
                task.cancel()
            await asyncio.gather(*syncing, return_exceptions=True)
            if avatars is not None:
                await avatars.stop()
            shelf.close()
            neighbours.peers.close()
            routes.close()
            backends.close()
            if tracer is not None:
                await asyncio.to_thread(tracer.close)

        def control_heard() -> str | None:
            return None if state.snapshot is not None else "control has not answered yet"

        yield Edge(
            parts=parts,
            lifecycle=lifecycle,
            public=Listener(
                app=EdgeApp(parts, start=start, stop=stop),
                host=settings.host,
                port=settings.port,
                tls=tls.context if tls is not None else None,
                http=protocol_class(settings.server_limits(), cors),
                keep_alive_ms=settings.keep_alive_ms,
                fds=place.fds,
            ),
            ops=Listener(
                app=ops_app(lifecycle, metrics=metrics.exposition, checks={"control": control_heard}, feed=feed),
                host=settings.ops_host,
                port=settings.ops_port,
                fds=place.ops_fds,
            ),
            inner=neighbours.listeners(parts),
        )


def _prepare_drain(lifecycle: Lifecycle, parts: Parts) -> None:
    """Say what a drain waits for, and when it gives up on streams that nobody reads."""

    async def idle() -> None:
        await parts.streams.idle()
        await parts.shelf.read_out()

    def begun() -> None:
        until_s = (lifecycle.settle_ms + lifecycle.drain_ms * _UNREAD_PART) / 1000
        asyncio.get_running_loop().call_later(until_s, parts.streams.cut_unread)

    lifecycle.idle = idle
    lifecycle.on_drain.append(begun)
