"""What the endpoints of one edge process share, put together once by `edge.run`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from edge.endpoints.access import Access
from edge.relay.backends import Backends
from edge.relay.relay import RelaySettings
from edge.routing.routes import Routes
from edge.routing.state import StateSource
from edge.streams.meters import StreamMetersCache
from edge.streams.stream import StreamTimings
from streamkit.flow.budget import Account
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops.events import EventFeed
from streamkit.ops.metrics import Metrics

__all__ = ["OpenStreams", "Parts"]


class OpenStreams:
    """Requests that have not settled; a drain waits for there to be none."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def opened(self) -> None:
        """One more."""
        self.count += 1
        self._none.clear()

    def closed(self) -> None:
        """One less."""
        self.count -= 1
        if not self.count:
            self._none.set()

    async def idle(self) -> None:
        """Return once there is none."""
        await self._none.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The composition: no globals, no singletons."""

    access: Access
    routes: Routes
    state: StateSource
    backends: Backends
    budget: RetryBudget
    #: Memory charged with request bodies.
    bodies: Account
    timings: StreamTimings
    relay: RelaySettings
    metrics: Metrics
    meters: StreamMetersCache
    #: Told of each stream's end.
    feed: EventFeed
    streams: OpenStreams
    region: str
    max_body_bytes: int
    write_high_bytes: int
