"""The shapes between the edge's layers: a synchronous push, from a source through a sink to an outlet.

    Source.open(request, sink) -> Attempt(pause, resume, cancel)
    Sink.sent(), Sink.feed(batch), Sink.end(outcome)
    Outlet.write(bytes) -> bool

A source may be a connection per stream to an engine (now), a peer edge, or one multiplexed link per core host:
nothing above may notice which. Every call happens on the event loop's thread and returns at once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

import msgspec

from streamkit.wire.errors import HeadraceError
from streamkit.wire.events import Batch

__all__ = ["Attempt", "Ending", "Outcome", "Outlet", "Readable", "Reply", "Sink", "Source", "UpstreamRequest"]


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a source sends to its engine."""

    path: bytes
    body: bytes
    #: An event stream is expected; otherwise one JSON body.
    stream: bool
    #: The request asks for one choice, so an event holds at most one finish_reason.
    one_choice: bool = True
    #: The answer must be whole within so many seconds; for engines that can be told. None = a stream.
    deadline_s: float | None = None
    #: Extra request headers: `X-Request-Id`, trace context, `X-Sim` for simulators.
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Ending(enum.Enum):
    """How the upstream ended, as the connection saw it."""

    ANSWER = "answer"  #: one whole body, of any status; not an event stream
    END = "end"  #: an event stream whose body ended cleanly (which does not make it complete)
    BROKEN = "broken"  #: connection refused, reset or cut; malformed or oversized data
    CANCELLED = "cancelled"  #: by `Attempt.cancel`


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `Sink.end` is told, once and last."""

    ending: Ending
    #: HTTP status; 0 where none arrived.
    status: int = 0
    content_type: bytes = b""
    #: The whole body of an ANSWER.
    body: bytes = b""
    #: What broke, for BROKEN.
    error: HeadraceError | None = None
    #: A pooled connection that the engine had closed before it sent a byte: one retry is free.
    stale: bool = False
    #: Of BROKEN: the request cannot be put to this engine at all; another may take it.
    unfit: bool = False


class Sink(Protocol):
    """Takes what a source delivers."""

    def sent(self) -> None:
        """The request is on a connection: no longer connecting."""

    def feed(self, batch: Batch) -> None:
        """Take whole data events."""

    def end(self, outcome: Outcome) -> None:
        """The upstream is over and its connection is free. Called exactly once, last."""


class Attempt(Protocol):
    """One upstream under way."""

    def pause(self) -> None:
        """Stop reading from the engine."""

    def resume(self) -> None:
        """Read again."""

    def cancel(self) -> None:
        """Give up: `Sink.end` is called once the engine's slot can be counted free."""


class Source(Protocol):
    """Opens upstreams to one backend."""

    def open(self, request: UpstreamRequest, sink: Sink) -> Attempt:
        """Begin an attempt. `sink` may be called before this returns."""


class Outlet(Protocol):
    """Where a stream's bytes leave: the writer extension, or a channel under a foreign server."""

    on_pause: Callable[[], None] | None
    on_resume: Callable[[], None] | None
    on_disconnect: Callable[[], None] | None

    def write(self, data: bytes) -> bool:
        """Write whole events. False = paused: more is still taken, but nobody should send it."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client's kernel has not acknowledged, ours and the kernel's."""

    def abort(self) -> None:
        """Drop the connection and what is unsent."""


class Readable(Protocol):
    """What a transport reads: a `Stream`, or a `Reading` of a resumable one.

    `decided`, then `reply` if there is one, else headers and `attach` if `committed`, then `ended`; `gone` whenever
    the client is.
    """

    @property
    def reply(self) -> Reply | None:
        """The whole answer of a client that is sent no stream."""

    @property
    def committed(self) -> bool:
        """Whether the client is owed a 200 and an event stream, even if that has ended since."""

    async def decided(self) -> None:
        """Wait until it is known what the status line says."""

    def attach(self, outlet: Outlet) -> None:
        """Let bytes flow to `outlet`."""

    async def ended(self) -> None:
        """Wait until nothing more will be written."""

    def gone(self) -> None:
        """The client closed its connection, or half of it."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer for a client that has been sent nothing yet."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
