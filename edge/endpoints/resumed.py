"""A resumable stream as a socket resumes it, at whatever instance it is."""

from __future__ import annotations

import asyncio

from edge.endpoints.parts import Parts
from edge.endpoints.streams import open_reading
from edge.sources.peer import PeerReading
from edge.streams.contracts import Readable
from edge.streams.kept import Kept, Owner
from streamkit.wire.errors import HeadraceError
from streamkit.wire.ids import request_id

__all__ = ["Resumed"]


class Resumed:
    """One reading of one stream.

    Args:
        parts: the edge.
        stream_id: as the client sent it.
        owner: who the client is.
        after: the last event that it has.

    Raises:
        HeadraceError: see `open_reading`.
    """

    __slots__ = ("_kept", "_owner", "_parts", "_stopping", "reader", "request_id", "stream_id")

    def __init__(self, parts: Parts, stream_id: str, owner: Owner, after: int) -> None:
        self._parts = parts
        self._owner = owner
        found = parts.shelf.find(stream_id, owner)
        self._kept = found if isinstance(found, Kept) else None
        self._stopping: asyncio.Task[None] | None = None
        self.stream_id = stream_id
        #: Of the stream where it is here, else of the request to its owner.
        self.request_id = self._kept.stream.request_id if self._kept is not None else request_id()
        self.reader: Readable = open_reading(parts, stream_id, owner, after, request_id=self.request_id)

    @property
    def error(self) -> HeadraceError | None:
        """What the stream failed with, or why its owner refused; known once it is decided, or over."""
        if self._kept is not None:
            return self._kept.stream.error
        return self.reader.error if isinstance(self.reader, PeerReading) else None

    def stop(self) -> None:
        """End the stream for good."""
        if self._kept is not None:
            self._kept.stop()
        elif self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop_there(), name="stop at a peer")

    async def _stop_there(self) -> None:
        try:
            order = open_reading(self._parts, self.stream_id, self._owner, 0, request_id=self.request_id, stop=True)
        except HeadraceError:
            return  # it is gone by itself
        try:
            await order.decided()
        finally:
            order.gone()
