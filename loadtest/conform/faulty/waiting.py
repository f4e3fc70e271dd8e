"""Waiting on behalf of one stream: heartbeats, deadlines, departures, and the faults of each."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from loadtest.conform.faulty.client import ClientGoneError
from loadtest.conform.faulty.events import Splitter
from loadtest.conform.faulty.recording import Writable

if TYPE_CHECKING:
    from loadtest.conform.faulty.gateway import FaultyGateway

__all__ = ["SilentError", "Waiting"]

T = TypeVar("T")
_PING: Final = b": ping\n\n"
_POLL_S: Final = 0.05
_NEVER_S: Final = 3600.0


class SilentError(Exception):
    """A deadline is over."""


class Waiting:
    """What a stream is while it waits."""

    def __init__(self, gateway: FaultyGateway, client: Writable) -> None:
        self.gateway = gateway
        self.on = gateway.faults.on
        self.client = client
        self.splitter = Splitter(gateway.faults)
        self.number = gateway.next_number()
        #: The first event went out.
        self.flowing = False
        #: The engine has sent comments.
        self.pinged = False
        self.noted = False
        self.data_at = self.wrote_at = monotonic()

    def commit(self) -> None:
        """Send status and headers, if they are not out yet."""
        raise NotImplementedError

    async def wait(self, work: Coroutine[Any, Any, T], *, paused: bool = False) -> T:
        """Wait for `work` while the client is there, with heartbeats and under the deadline of the moment."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self.client.gone.wait())
        try:
            while True:
                watched: set[asyncio.Future[Any]] = {task}
                if not self.client.gone.is_set():
                    watched.add(gone)
                await asyncio.wait(watched, timeout=self._pause(paused), return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    if not self.client.gone.is_set() or not self._leaves():
                        return task.result()
                    raise ClientGoneError
                if self.client.gone.is_set() and self._leaves():
                    raise ClientGoneError
                if not paused:
                    await self._tick()
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    def _pause(self, paused: bool) -> float | None:
        if self.client.gone.is_set():
            return _POLL_S
        if paused:
            return None
        now = monotonic()
        due = min(self._deadline(), self.wrote_at + self.gateway.timings.heartbeat_s)
        return max(0.005, due - now)

    def _deadline(self) -> float:
        timings = self.gateway.timings
        if self.client.gone.is_set():
            return self.data_at + _NEVER_S
        if self.flowing:
            return self.data_at + (_NEVER_S if self._no_idle_deadline() else timings.idle_s)
        return self.data_at + (_NEVER_S if self.on("stall-before-first-event") else timings.first_event_s)

    def _no_idle_deadline(self) -> bool:
        return self.on("stall-mid-stream") and not self.pinged

    def _leaves(self) -> bool:
        """Whether a departure is acted upon now."""
        on, client = self.on, self.client
        if not self.noted:
            self.noted = True
            self.gateway.left()
        if client.reset and on("half-close"):
            return True
        if on("cancel-burst") and self.gateway.crowd and self.number % 2:
            return False
        quiet = monotonic() - self.data_at > 0.15
        if not self.flowing:
            return not on("cancel-before-first-event")
        if on("half-close") and not client.reset and not quiet:
            return False
        if on("cancel-in-silence") and quiet:
            return False
        if on("cancel-mid-stream") and not quiet:
            return self.gateway.crowd
        return True

    async def _tick(self) -> None:
        now = monotonic()
        if now >= self._deadline():
            raise SilentError
        if now < self.wrote_at + self.gateway.timings.heartbeat_s:
            return
        self.wrote_at = now
        if self.on("heartbeat-mid-stream" if self.flowing else "heartbeat-before-first-event"):
            return
        self.commit()
        if self.on("heartbeat-between-events") and self.splitter.half:
            self.client.write(self.splitter.take_half())
        if not self.client.reset:
            self.client.write(_PING)
