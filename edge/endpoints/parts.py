"""What the endpoints of one edge process share, put together once by `edge.run`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final, Protocol

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

__all__ = ["OpenStream", "OpenStreams", "Parts"]


#: For the last words of streams that a drain cuts to reach their clients.
_LAST_WORDS_S: Final = 0.5


class OpenStream(Protocol):
    """A request that has not settled."""

    def cut(self) -> None:
        """End it now, and say so to its client."""


class OpenStreams:
    """Requests that have not settled; a drain waits for there to be none."""

    def __init__(self) -> None:
        self._open: set[OpenStream] = set()
        self._none = asyncio.Event()
        self._none.set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._open)

    def opened(self, stream: OpenStream) -> None:
        """One more."""
        self._open.add(stream)
        self._none.clear()

    def closed(self, stream: OpenStream) -> None:
        """One less."""
        self._open.discard(stream)
        if not self._open:
            self._none.set()

    async def idle(self) -> None:
        """Return once there is none; cancelled, as a drain's deadline does, cut those that are left (law 5)."""
        try:
            await self._none.wait()
        except asyncio.CancelledError:
            for stream in list(self._open):
                stream.cut()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._none.wait()
            raise


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
