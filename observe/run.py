"""The observability centre as a process: settings in, exit status out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from observe.collector import Collector, Counts, own_feed
from observe.counting import Counting
from observe.door import door
from observe.gathering import Gathering
from observe.meters import watch, watch_counting, watch_streams
from observe.positions import Positions
from observe.prober import Probing
from observe.publisher import Publisher
from observe.settings import HealingSettings, ObserveSettings, ProberSettings
from observe.spool import Spool
from observe.streams import planned
from observe.tally import Tally
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.file_form import FormError
from streamkit.ops.health import ops_app
from streamkit.ops.http_client import HttpClient
from streamkit.ops.jetstream import JetLink
from streamkit.ops.lifecycle import Lifecycle
from streamkit.ops.metrics import Metrics
from streamkit.ops.server import Listener, run, serve
from streamkit.ops.settings import SettingsError

__all__ = ["main"]

_log = logging.getLogger(__name__)
_EXIT_SETTINGS: Final = 2
_REMEMBER_S: Final = 0.5


def main(
    settings: ObserveSettings,
    prober: ProberSettings,
    healing: HealingSettings,
    *,
    ready_file: str | None = None,
) -> int:
    """Run the observability centre until a signal ends it, and return the exit status.

    0 = stopped as asked; 1 = it did not start; 2 = the settings or the address cannot be used.

    Args:
        settings: `[observe]`.
        prober: `[prober]`.
        healing: `[healing]`.
        ready_file: written once it answers, removed at the end.
    """
    log.configure("observe")
    folder = Path(settings.state_dir or "observe")
    try:
        probing = Probing.of(prober, healing)
        folder.mkdir(parents=True, exist_ok=True)
        tally = Tally(folder / "usage.db") if settings.tallies else None
    except FormError as error:
        return _say(f"{folder / 'usage.db'}: {error}")
    except sqlite3.Error as error:
        return _say(f"{folder / 'usage.db'}: cannot be used: {error}; move it away, and what was used counts anew")
    except (SettingsError, OSError) as error:
        return _say(str(error))
    return run(lambda: _serve(settings, probing, folder, tally, ready_file))


def _say(text: str) -> int:
    print(f"observe: {text}", file=sys.stderr)  # noqa: T201  it must be seen under any log level
    return _EXIT_SETTINGS


async def _serve(
    settings: ObserveSettings, probing: Probing | None, folder: Path, tally: Tally | None, ready_file: str | None
) -> int:
    lifecycle = Lifecycle(settle_ms=settings.settle_ms, drain_ms=settings.drain_ms)
    feed, metrics, counts = EventFeed(), Metrics(), Counts()
    spool, positions = Spool(settings.spool_bytes), Positions(folder / "positions.json")
    plans = planned(settings)
    async with contextlib.AsyncExitStack() as stack:
        link = await stack.enter_async_context(JetLink(settings.nats_url, name="headrace observe"))
        http = await stack.enter_async_context(HttpClient(max_connections=2 * len(settings.feeds) + 4))
        publisher, gathering = Publisher(link, spool, plans), Gathering(link, plans)
        counting = None
        if tally is not None:
            counting = Counting(tally, link, plans[-1].name, settings.site_name)
            stack.callback(counting.close)
            watch_counting(metrics, counting)
        watch(metrics, link, spool, publisher, counts)
        watch_streams(metrics, gathering)
        read = positions.read()
        collectors = [
            Collector(
                *feed_of.split("=", 1), site=settings.site_name, http=http, spool=spool,
                after=read.get(feed_of.split("=", 1)[0], ""), counts=counts,
            )
            for feed_of in settings.feeds
        ]  # fmt: skip
        work: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "publish events": publisher.run,
            "own events": lambda: own_feed(feed, site=settings.site_name, spool=spool),
            "remember positions": lambda: _remember(spool, positions, read),
            "look at the streams": gathering.run,
            **{f"collect {one.name}": one.run for one in collectors},
        }
        if counting is not None:
            work |= {"count usage": counting.run, "tell what was spent": counting.tell}
        if probing is not None:
            probing.show(metrics)
            work["probe"] = lambda: probing.run(feed.publish)
        lifecycle.idle = publisher.empty

        def stored() -> str | None:
            return f"events wait in memory: {publisher.failing}" if publisher.failing else None

        def counted() -> str | None:
            failing = counting.failing if counting is not None else ""
            return f"what is used is not counted: {failing}" if failing else None

        return await serve(
            name="observe",
            kind="observe",
            public=Listener(
                app=_Working(door(counting, tally, probing.shown if probing is not None else list), work, lifecycle),
                host=settings.host,
                port=settings.port,
            ),
            ops=Listener(
                app=ops_app(
                    lifecycle, metrics=metrics.exposition, checks={"broker": stored, "usage": counted}, feed=feed
                ),
                host=settings.ops_host,
                port=settings.ops_port,
            ),
            lifecycle=lifecycle,
            ready_file=ready_file,
            ready_extra={"role": settings.role, "site": settings.site_name},
        )


class _Working:
    """The page's application, whose lifespan runs the tasks; one that fails ends the process, to be started anew."""

    def __init__(
        self, app: Any, work: dict[str, Callable[[], Coroutine[Any, Any, None]]], lifecycle: Lifecycle
    ) -> None:
        self._app = app
        self._work = work
        self._lifecycle = lifecycle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        async with self._tasks():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _tasks(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(call(), name=name) for name, call in self._work.items()]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task's outermost frame."""
        if task.cancelled() or self._lifecycle.draining:
            return
        _log.error("task.ended", exc_info=task.exception(), extra={"task": task.get_name()})
        self._lifecycle.begin_drain()


async def _remember(spool: Spool, positions: Positions, read: dict[str, str]) -> None:
    """Write down how far feeds were read, twice a second and at the end; a disk that is full is told of once."""
    failing = ""

    def write() -> None:
        nonlocal failing
        try:
            positions.write({**read, **spool.seen})
        except OSError as error:
            if str(error) != failing:
                log.event(_log, "positions.unwritten", level=logging.WARNING, why=str(error))
            failing = str(error)
        else:
            failing = ""

    try:
        while True:
            await asyncio.sleep(_REMEMBER_S)
            write()
    finally:
        # What a next life reads again is known as a copy for ten minutes only; it may come later than that.
        write()
