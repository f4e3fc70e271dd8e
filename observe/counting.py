"""The tally at work: events in, in batches; what payers have spent out, to control."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, TypeVar

import msgspec

from observe.tally import Tally
from streamkit.ops import log
from streamkit.ops.jetstream import JetLink
from streamkit.wire.telemetry import Event, SpentState, day_of, month_of, spent_subject, subjects
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["Counting"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
_BATCH: Final = 512
#: What came within this is one transaction.
_GATHER_S: Final = 0.05
#: A file that takes nothing is tried again after so long.
_AGAIN_S: Final = 1.0
#: Pause between two words to control; without a change it is told more seldom.
_TELL_S: Final = 0.5
_REPEAT_S: Final = 5.0
#: Payers in one message, so that it stays below what a link takes.
_PAYERS: Final = 400
_KEPT_DAYS: Final = 400
_DECODER: Final = msgspec.json.Decoder(Event)


class Counting:
    """Reads the events and keeps the tally.

    Args:
        tally: the file.
        link: to the broker.
        stream: what is read.
        site: of this process.
        now: the wall clock.
    """

    def __init__(
        self,
        tally: Tally,
        link: JetLink,
        stream: str,
        site: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counted = 0
        self.malformed = 0
        #: Messages of the stream that were not counted yet, as last seen.
        self.behind = 0
        #: Why nothing is counted just now; empty = it is.
        self.failing = ""
        self._tally = tally
        self._link = link
        self._stream = stream
        self._site = site
        self._now = now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tally")

    async def on_thread(self, call: Callable[..., T], *given: Any) -> T:
        """Call the tally, on the one thread that may."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *given)

    def close(self) -> None:
        """Close the tally when what is under way is over."""
        self._thread.submit(self._tally.close)
        self._thread.shutdown()

    async def run(self) -> None:
        """Count for ever; while the disk takes nothing what was read waits, and no more is read.

        Raises:
            ExceptionGroup: the file is damaged.
        """
        after = await self.on_thread(self._tally.place, self._stream)
        batch: list[tuple[int, Event]] = []
        gathered = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(after, batch, gathered), name="read what was used")
            group.create_task(self._write(batch, gathered), name="write the tally")

    async def _read(self, after: int, batch: list[tuple[int, Event]], gathered: asyncio.Event) -> None:
        filters = (subjects(kind="stream"), subjects(kind="lease"))
        async for message in self._link.messages(self._stream, filters=filters, after=after):
            self.behind = message.pending
            if message.sequence <= after:
                await self._begin_anew(batch)
            after = message.sequence
            try:
                batch.append((message.sequence, _DECODER.decode(message.data)))
            except UNREADABLE:
                self.malformed += 1
            gathered.set()
            while len(batch) >= _BATCH:  # noqa: ASYNC110 - the writer takes what is there within its pause
                await asyncio.sleep(0.005)  # the disk is the slower one

    async def tell(self) -> None:
        """Tell control for ever what was spent, soon after it changed; and forget once a day what is old."""
        told: list[bytes] = []
        told_at, tidied = 0.0, 0
        while True:
            now = self._now()
            if (day := day_of(now)) != tidied:
                await self._written(self._tally.drop_before, (day - _KEPT_DAYS) * 24)
                tidied = day
            spent = await self.on_thread(self._tally.spent, now)
            parts = [spent[at : at + _PAYERS] for at in range(0, len(spent), _PAYERS)] or [[]]
            state = SpentState(day=day, month=month_of(now))
            messages = [msgspec.json.encode(msgspec.structs.replace(state, spent=tuple(part))) for part in parts]
            if (messages != told or monotonic() - told_at > _REPEAT_S) and self._link.connected:
                for message in messages:
                    await self._link.publish(spent_subject(self._site), message)
                told, told_at = messages, monotonic()
            await asyncio.sleep(_TELL_S)

    async def _begin_anew(self, batch: list[tuple[int, Event]]) -> None:
        """Count a stream from one that was made anew, once what came before it is written."""
        log.event(_log, "tally.stream_anew", level=logging.WARNING, stream=self._stream)
        while batch:  # noqa: ASYNC110 - the writer takes what is there within its pause
            await asyncio.sleep(_GATHER_S)
        await self._written(self._tally.forget, self._stream, int(self._now().timestamp() * 1000))

    async def _write(self, batch: list[tuple[int, Event]], gathered: asyncio.Event) -> None:
        while True:
            await gathered.wait()
            gathered.clear()
            await asyncio.sleep(_GATHER_S)
            events = batch[:]
            await self._written(self._tally.count, self._stream, events)
            del batch[: len(events)]
            self.counted += len(events)

    async def _written(self, call: Callable[..., None], *given: Any) -> None:
        """Call the tally until the file takes it: a full disk, or somebody's lock, is waited for and told of once."""
        while True:
            try:
                await self.on_thread(call, *given)
            except sqlite3.OperationalError as error:
                if str(error) != self.failing:
                    log.event(_log, "tally.waiting", level=logging.WARNING, why=str(error))
                self.failing = str(error)
                await asyncio.sleep(_AGAIN_S)
            else:
                if self.failing:
                    log.event(_log, "tally.flowing")
                self.failing = ""
                return
