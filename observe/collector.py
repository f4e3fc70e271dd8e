"""One service's feed, read again and again, into the spool: from where it was left, whoever of the two went away."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from observe.spool import Spool, Spooled
from streamkit.ops import log
from streamkit.ops.events import EVERYTHING, LOST, EventFeed, EventId
from streamkit.ops.http_client import HttpClient, HttpError
from streamkit.wire.telemetry import KIND, Event, subject
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["MAX_EVENT_BYTES", "Collector", "Counts", "own_feed"]

_log = logging.getLogger(__name__)
#: Below the broker's `max_payload`, with room for headers.
MAX_EVENT_BYTES: Final = 60 * 1024
_HEADERS_MS: Final = 5_000
#: The feed pings every 15 s.
_IDLE_MS: Final = 40_000
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0)
_KIND: Final = re.compile(KIND)


class _Lost(msgspec.Struct):
    """The fields of `feed.lost`."""

    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]


@dataclass(slots=True)
class Counts:
    """What became of the events of all feeds."""

    taken: dict[str, int] = field(default_factory=dict)  #: by feed
    lost: int = 0  #: that a feed had forgotten before they were read
    refused: int = 0  #: no event, or one that is too large
    connected: dict[str, bool] = field(default_factory=dict)


class Collector:
    """Reads one feed.

    Args:
        name: of the feed: which service it is.
        url: the service's ops address.
        site: where that is.
        http: makes the calls.
        spool: takes the events.
        after: the last id that was read; empty = none.
        counts: of all collectors.
    """

    def __init__(
        self, name: str, url: str, *, site: str, http: HttpClient, spool: Spool, after: str, counts: Counts
    ) -> None:
        self.name = name
        self._url = url.rstrip("/") + "/v1/events"
        self._site = site
        self._http = http
        self._spool = spool
        self._after = after or EVERYTHING
        self._counts = counts
        counts.taken.setdefault(name, 0)
        counts.connected[name] = False

    async def run(self) -> None:
        """Read for ever; an outage is logged once."""
        failures = 0
        while True:
            try:
                await self._read()
                failures = 0
            except HttpError as error:
                if failures == 0:
                    log.event(_log, "feed.away", level=logging.WARNING, feed=self.name, reason=str(error))
                failures += 1
            finally:
                self._counts.connected[self.name] = False
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])

    async def _read(self) -> None:
        headers = (("last-event-id", self._after),)
        async with self._http.stream_lines(
            self._url, None, timeout_ms=_HEADERS_MS, idle_ms=_IDLE_MS, headers=headers
        ) as stream:
            if stream.status != 200:
                raise HttpError("status", f"{self._url} answered {stream.status}")
            self._counts.connected[self.name] = True
            id_ = name = data = ""
            async for line in stream.lines:
                if not line:
                    if data:
                        self._take(id_, name, data)
                    id_ = name = data = ""
                    continue
                member, _, value = line.partition(": ")
                match member:
                    case "id":
                        id_ = value
                    case "event":
                        name = value
                    case "data":
                        data += value

    def _take(self, id_: str, name: str, data: str) -> None:
        parsed = EventId.parse(id_)
        if parsed is not None:
            # Taken or refused, it is not asked for again.
            self._after = id_
        if parsed is None or not take(self._spool, self.name, self._site, parsed, name, data.encode()):
            self._counts.refused += 1
            return
        self._counts.taken[self.name] += 1
        if name == LOST:
            self._counts.lost += _lost(data)


def take(spool: Spool, feed: str, site: str, id_: EventId, kind: str, data: bytes) -> bool:
    """Put an event of a feed into the spool; False = it is none, or is too large."""
    if _KIND.fullmatch(kind) is None or len(data) > MAX_EVENT_BYTES:
        return False
    try:
        fields = msgspec.json.decode(data, type=dict[str, object])
    except UNREADABLE:
        return False
    event = Event(id=str(id_), kind=kind, site=site, source=feed, at_ms=id_.at_ms, fields=fields)
    spool.push(Spooled(event.id, feed, subject(site, kind), msgspec.json.encode(event)))
    return True


def _lost(data: str) -> int:
    """Return how many events a feed says that it had forgotten: one at least, or it would not say so."""
    try:
        return msgspec.json.decode(data, type=_Lost).count
    except UNREADABLE:
        return 1


async def own_feed(feed: EventFeed, *, site: str, spool: Spool) -> None:
    """Put this process's own events into the spool until the feed closes; they are here, and need no way back."""
    after = EVERYTHING
    while True:
        with feed.subscribe(after) as events:
            async for event in events:
                take(spool, "observe", site, event.id, event.name, event.data)
                after = str(event.id)
        if not events.dropped:
            return
        # More was told at once than may wait for a reader, as when many backends fall sick: the feed still has it.
