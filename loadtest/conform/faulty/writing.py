"""What a stream of the faulty gateway writes: one head, events to a slow reader, an end; with the faults of each."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from loadtest.conform.faulty.client import Request
from loadtest.conform.faulty.recording import Writable
from loadtest.conform.faulty.waiting import Waiting

if TYPE_CHECKING:
    from loadtest.conform.faulty.gateway import FaultyGateway

__all__ = ["Writing"]

_DONE: Final = b"data: [DONE]\n\n"


class Writing(Waiting):
    """What a stream is while it writes."""

    def __init__(self, gateway: FaultyGateway, client: Writable, request: Request, fields: dict[str, str]) -> None:
        super().__init__(gateway, client)
        self._request = request
        self._fields = fields
        self._after_half_close = 0
        #: Status and headers are out.
        self.committed = False
        #: The answer is one of the case about pools.
        self.pool_case = False

    def commit(self) -> None:
        """Send status and headers, once."""
        if self.committed:
            return
        self.committed = True
        on = self.on
        headers = {
            "content-type": "application/json" if on("stream-content-type") else "text/event-stream",
            "cache-control": "public, max-age=60" if on("stream-caching") else "no-cache",
            "x-accel-buffering": "no",
            **self._fields,
        }
        if on("stream-length") and "gzip" in self._request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
        self.client.begin(headers)

    async def emit(self, data: bytes) -> None:
        """Write one event, and wait for a slow reader."""
        gateway, on = self.gateway, self.on
        self.commit()
        if on("no-batching") and monotonic() - self.wrote_at > 0.001:
            await asyncio.sleep(0.06)
        if gateway.full and on("slow-reader-apart") and not self.client.full:
            await asyncio.sleep(0.3)
        if self.client.gone.is_set() and on("half-close") and not self.client.reset:
            self._after_half_close += 1
            if self._after_half_close > 2:
                return
        if not self.client.reset:
            self.client.write(data)
        # Marks of two cases, so that these faults leave the others alone.
        if b"STALE" in data:
            gateway.leftover = data
        self.pool_case = self.pool_case or b"chatcmpl-pool" in data
        self.wrote_at = monotonic()
        if self.client.full and not on("bounded-buffer"):
            gateway.full += 1
            try:
                await self.wait(self.client.drain(), paused=True)
            finally:
                gateway.full -= 1

    async def pass_comments(self) -> None:
        """Take note of an engine's comments; drop them, but for a fault."""
        comments, self.splitter.comments = self.splitter.comments, []
        if comments and self.on("pings-hide-no-stall"):
            self.data_at = monotonic()
        self.pinged = self.pinged or bool(comments)
        if self.on("ids-and-pings"):
            for comment in comments:
                await self.emit(comment)

    # Endings.

    async def finish(self) -> None:
        """End it well."""
        await self.emit(_DONE)
        if self.on("done-once"):
            await self.emit(_DONE)
        self.client.end()
        await self.client.drain()

    async def fail(self, frame: bytes) -> None:
        """End it with an error frame."""
        await self.emit(frame)
        if not self.on("done-after-error"):
            await self.emit(_DONE)
        self.client.end()
        await self.client.drain()

    async def empty(self) -> None:
        """Answer as if there were nothing to say."""
        await self.finish()
