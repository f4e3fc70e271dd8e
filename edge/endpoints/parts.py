"""What the endpoints of one edge process share, put together once by `edge.run`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge.endpoints.access import Access
from edge.endpoints.budgets import Budgets
from edge.endpoints.limits import TenantLimits
from edge.endpoints.sheds import Sheds
from edge.protocol.cors import Cors
from edge.relay.backends import Backends
from edge.relay.means import Means
from edge.routing.holds import Holds
from edge.routing.routes import Routes
from edge.routing.state import StateSource
from edge.server.limits import SocketLimits
from edge.sources.peers import Peers
from edge.streams.meters import StreamMetersCache
from edge.streams.shelf import Shelf
from edge.streams.stream import Stream, StreamTimings
from edge.transports.http import Receive, Scope, Send
from streamkit.flow.budget import Account
from streamkit.ops.events import EventFeed
from streamkit.ops.metrics import Metrics
from streamkit.ops.traces import Tracer

__all__ = ["AvatarDoor", "OpenStream", "OpenStreams", "Parts", "Sockets"]


class AvatarDoor(Protocol):
    """Where requests about avatars go; made only where they are configured, because it loads gRPC and aiortc."""

    async def serve(self, name: str, scope: Scope, receive: Receive, send: Send, *, relayed: bool = False) -> None:
        """Serve one request; see `edge.endpoints.avatars.surface`."""


#: For the last words of streams that a drain cuts to reach their clients.
_LAST_WORDS_S: Final = 0.5


class OpenStream(Protocol):
    """A request that has not settled."""

    @property
    def stream(self) -> Stream:
        """The client's side."""

    @property
    def unread(self) -> bool:
        """Its stream runs on with nobody reading."""

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

    @property
    def paused(self) -> int:
        """How many are paused by slow readers."""
        return sum(one.stream.paused for one in self._open)

    @property
    def unsent_bytes(self) -> int:
        """What their readers have not acknowledged; a system call for each, so it is for scrapes."""
        return sum(one.stream.unsent_bytes for one in self._open)

    def opened(self, stream: OpenStream) -> None:
        """One more."""
        self._open.add(stream)
        self._none.clear()

    def closed(self, stream: OpenStream) -> None:
        """One less."""
        self._open.discard(stream)
        if not self._open:
            self._none.set()

    def cut_unread(self) -> None:
        """End those that nobody reads, while there is time to come and see why."""
        for stream in list(self._open):
            if stream.unread:
                stream.cut()

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
class Sockets:
    """What WebSockets may do, and those that are open."""

    limits: SocketLimits
    #: Memory charged with half messages, and with frames that wait for credit.
    frames: Account
    #: Streams on one socket at a time.
    max_streams: int
    #: Credit of a stream that names none; 0 = its events are not counted.
    credit_bytes: int
    open: set[object] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The composition: no globals, no singletons."""

    access: Access
    #: What tenants may use.
    limits: TenantLimits
    routes: Routes
    state: StateSource
    backends: Backends
    #: What relays have at their disposal, the backends among it.
    means: Means
    #: Memory charged with request bodies.
    bodies: Account
    sockets: Sockets
    timings: StreamTimings
    metrics: Metrics
    meters: StreamMetersCache
    #: Told of each stream's end.
    feed: EventFeed
    streams: OpenStreams
    #: Resumable streams.
    shelf: Shelf
    #: Other instances, which have the streams that are not here.
    peers: Peers
    region: str
    max_body_bytes: int
    write_high_bytes: int
    #: The longest life of a client token.
    client_token_s: int = 3_600
    #: Of sampled requests; None = nothing is traced.
    tracer: Tracer | None = None
    #: None = there are no avatars.
    avatars: AvatarDoor | None = None
    #: Which pages of other origins may ask.
    cors: Cors = field(default_factory=Cors)
    #: What payers may use in a day and a month.
    budgets: Budgets = field(default_factory=Budgets)
    #: Backends that this node leaves alone.
    holds: Holds = field(default_factory=Holds)
    #: Tells of requests that were refused.
    sheds: Sheds = field(default_factory=Sheds)
    #: Series of probes, which no page shows: the prober has its own.
    probe_meters: StreamMetersCache = field(default_factory=lambda: StreamMetersCache(Metrics()))
