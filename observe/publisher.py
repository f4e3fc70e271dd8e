"""From the spool to the broker: a batch at a time, each event acknowledged, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from observe.spool import Spool, Spooled
from streamkit.ops import log
from streamkit.ops.jetstream import JetError, JetLink, StreamPlan, TooLargeError
from streamkit.wire.telemetry import EVENTS

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)
_BATCH: Final = 128
_RETRY_S: Final = 0.25
_IDLE_S: Final = 0.05


class Publisher:
    """Empties the spool.

    Args:
        link: to the site's broker.
        spool: what waits.
        plans: the streams that the broker must have.
    """

    def __init__(self, link: JetLink, spool: Spool, plans: Sequence[StreamPlan]) -> None:
        self.stored = 0
        self.refused = 0  #: events that are too large for the server
        self._link = link
        self._spool = spool
        self._plans = plans
        self._ensured = False
        self._pushed = asyncio.Event()
        spool.on_push = self._pushed.set
        #: Why events are not stored just now; empty = they are.
        self.failing = ""

    async def run(self) -> None:
        """Publish for ever; each new reason why it cannot is logged once."""
        while True:
            try:
                await self._round()
            except JetError as error:
                self._ensured = False
                if str(error) != self.failing:
                    log.event(_log, "events.waiting", level=logging.WARNING, why=str(error), waiting=len(self._spool))
                self.failing = str(error)
                await asyncio.sleep(_RETRY_S)
            else:
                if self.failing:
                    log.event(_log, "events.flowing", waiting=len(self._spool))
                self.failing = ""

    async def empty(self) -> None:
        """Return once nothing waits."""
        while len(self._spool):  # noqa: ASYNC110 - only at the end of a process
            await asyncio.sleep(_IDLE_S)

    async def _round(self) -> None:
        if not self._ensured:
            for plan in self._plans:
                await self._link.ensure(plan)
            self._ensured = True
        self._pushed.clear()
        batch = self._spool.next(_BATCH)
        if not batch:
            await self._pushed.wait()
            return
        results = await asyncio.gather(*(self._put(event) for event in batch), return_exceptions=True)
        for failed in results:
            if isinstance(failed, BaseException):
                raise failed

    async def _put(self, event: Spooled) -> None:
        try:
            await self._link.put(event.subject, event.data, id=event.id, stream=EVENTS)
        except TooLargeError:
            # A server of somebody's own takes less than ours: no event behind it may wait for this one.
            self.refused += 1
        else:
            self.stored += 1
        self._spool.stored(event.id)
