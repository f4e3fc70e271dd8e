"""The hub's eye on its sources: how far behind they are, and a nudge for one that is there and is not heard."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from streamkit.ops import log
from streamkit.ops.jetstream import JetError, JetLink, StreamFigures, StreamPlan

__all__ = ["Gathering"]

_log = logging.getLogger(__name__)
_LOOK_S: Final = 1.0
#: A source that is well is heard every second.
_SILENT_S: Final = 5.0


class Gathering:
    """Looks at a broker's streams.

    Args:
        link: to the broker.
        plans: of its streams.
    """

    def __init__(self, link: JetLink, plans: tuple[StreamPlan, ...]) -> None:
        #: By stream, as last seen.
        self.figures: dict[str, StreamFigures] = {}
        #: Sources that were begun anew.
        self.woken = 0
        self._link = link
        self._plans = plans
        #: When a source was last begun anew, in seconds of the loop.
        self._woken_at: dict[str, float] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for plan in self._plans:
                try:
                    await self._look(plan)
                except JetError as error:
                    _log.debug("no look at %s: %s", plan.name, error)
            await asyncio.sleep(_LOOK_S)

    async def _look(self, plan: StreamPlan) -> None:
        found = await self._link.figures(plan.name)
        if found is None or not _has_all(found, plan):
            # Somebody deleted it, or a connection went between the two halves of a wake.
            await self._link.ensure(plan)
            return
        self.figures[plan.name] = found
        now = asyncio.get_running_loop().time()
        for source in found.sources:
            silent = source.heard_s is None or source.heard_s > _SILENT_S
            recent = now - self._woken_at.get(source.domain, -_SILENT_S) < _SILENT_S
            # One that cannot be reached is looked for by the server itself, and by nobody else.
            if source.domain and silent and not recent and await self._link.reaches(source.domain):
                self._woken_at[source.domain] = now
                self.woken += 1
                log.event(_log, "source.woken", site=source.domain, lag=source.lag)
                await self._link.wake(plan, source.domain)


def _has_all(found: StreamFigures, plan: StreamPlan) -> bool:
    there = {(source.stream, source.domain) for source in found.sources}
    return all((source.stream, source.domain) in there for source in plan.sources)
