"""The monitor put to work beside the arbiter: adapters, measured memory, metrics, and the way to control."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from core_gpu.arbiter.adapters.contract import Busy
from core_gpu.arbiter.adapters.made import adapter_of
from core_gpu.arbiter.arbiter import Arbiter
from core_gpu.arbiter.cold import ColdModels
from core_gpu.arbiter.lease import Lease
from core_gpu.arbiter.monitor import Monitor, Watched, ours
from core_gpu.arbiter.publisher import publishing
from core_gpu.arbiter.settings import ArbiterSettings
from core_gpu.modes.settings import Budget
from streamkit.ops import catalog
from streamkit.ops.events import EventFeed
from streamkit.ops.http_client import HttpClient
from streamkit.ops.metrics import Metrics
from streamkit.wire.backend import Backend
from streamkit.wire.state import LEVELS

__all__ = ["watching"]

Rows = Iterable[tuple[tuple[str, ...], float]]


@contextlib.asynccontextmanager
async def watching(
    settings: ArbiterSettings,
    arbiter: Arbiter,
    backends: Sequence[Backend],
    budgets: Sequence[Budget],
    *,
    metrics: Metrics,
    feed: EventFeed,
) -> AsyncIterator[Monitor]:
    """Look at this host's backends, and publish what is seen, for the length of the block.

    Args:
        settings: the arbiter's own.
        arbiter: whose leases tell what a backend holds, and who asks engines for room.
        backends: all that are configured; those of this host are watched.
        budgets: of this host.
        metrics: for what is seen.
        feed: for changes.
    """
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpClient(max_connections=64))
        watched = []
        for backend, budget in ours(backends, budgets):
            measure = _measure(arbiter, backend.name)
            watched.append(Watched(backend, budget, adapter_of(backend, http, measure), measure))

        def frozen(index: int) -> bool:
            accounts = arbiter.books.gpus(str(index))
            return any(arbiter.startups.holder(account.device.id) for account in accounts)

        monitor = Monitor(watched, settings, frozen=frozen, tell=feed.publish)

        def make_room(lease: Lease, mb: int) -> bool:
            return monitor.make_room(lease.client, mb)

        cold = ColdModels(monitor, free_mb=lambda index: _free_mb(arbiter, index))
        stack.push_async_callback(cold.close)
        arbiter.line.make_room = make_room
        _show(metrics, monitor)
        if settings.nats_url:
            publisher = await stack.enter_async_context(
                publishing(settings, metrics, monitor.pressure, cold.residences, cold.want, monitor.ailing)
            )
            monitor.on_change = publisher.changed
        task = asyncio.create_task(monitor.run(), name="watch the backends")
        try:
            yield monitor
        finally:
            arbiter.line.make_room = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _measure(arbiter: Arbiter, name: str) -> Callable[[], int | None]:
    """Return what tells the memory of the processes behind the leases of `name`; None where it is not measured."""

    def measure() -> int | None:
        books = arbiter.books
        used = [books.accounts[lease.gpu].used_by(lease) for lease in books.leases.values() if lease.client == name]
        measured = [mb for mb, is_measured in used if is_measured]
        return sum(measured) if measured else None

    return measure


def _free_mb(arbiter: Arbiter, index: int) -> int | None:
    """Return what the rule leaves of a GPU by its measured use; None = it is not measured, or not lately."""
    books = arbiter.books
    account = next(iter(books.gpus(str(index))), None)
    if account is None or not books.measures or not books.fresh(account, arbiter.clock()):
        return None
    return max(0, books.terms.rule.cap_mb(account.device.total_mb) - account.used_mb)


def _show(metrics: Metrics, monitor: Monitor) -> None:
    def pressure() -> Rows:
        for name, one in monitor.watched.items():
            yield (name,), float(one.shedder.level) if one.looked else -1.0

    def changes() -> Rows:
        for name, one in monitor.watched.items():
            for level, count in zip(LEVELS, one.shedder.entered, strict=True):
                yield (name, level), float(count)

    def rooms() -> Rows:
        for name, one in monitor.watched.items():
            yield (name, "overrun"), float(one.overruns)
            yield (name, "asked"), float(one.rooms)
            yield (name, "confirmed"), float(one.rooms_confirmed)
            yield (name, "restart"), float(one.restarts)

    def said() -> Iterable[tuple[str, Busy]]:
        return ((name, one.busy) for name, one in monitor.watched.items() if one.busy is not None)

    def requests() -> Rows:
        for name, busy in said():
            if busy.running is not None:
                yield (name, "running"), float(busy.running)
                yield (name, "waiting"), float(busy.waiting or 0)

    def prefixes() -> Rows:
        for name, busy in said():
            if busy.prefix_queries is not None:
                yield (name, "queries"), busy.prefix_queries
                yield (name, "hits"), busy.prefix_hits or 0.0

    def caches() -> Rows:
        return [((name,), busy.cache_usage) for name, busy in said() if busy.cache_usage is not None]

    metrics.watch(catalog.ENGINE_REQUESTS, requests)
    metrics.watch(catalog.ENGINE_PREFIX, prefixes)
    metrics.watch(catalog.ENGINE_CACHE, caches)
    metrics.watch(catalog.BACKEND_PRESSURE, pressure)
    metrics.watch(catalog.PRESSURE_CHANGES, changes)
    metrics.watch(catalog.BACKEND_ROOM, rooms)
