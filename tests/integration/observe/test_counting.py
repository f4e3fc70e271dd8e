"""The tally at work on a real broker, while its disk takes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from observe.counting import Counting
from observe.tally import Tally
from streamkit.ops.jetstream import JetLink, StreamPlan
from streamkit.wire.telemetry import EVENTS, Event, subject, subjects
from tests.support.inprocess import until
from tests.support.observe import served

AT_MS = 1_795_687_200_000
STREAMS = 600
PLAN = StreamPlan(name=EVENTS, subjects=(subjects("here"),), max_bytes=1 << 24, max_age_s=600.0)


def ended(number: int) -> Event:
    fields = {"tenant": f"tenant-{number}-{'x' * 200}", "backend": "gpu0", "completion_tokens": 1}
    return Event(id=f"e-{number}-1", kind="stream.end", site="here", source="edge", at_ms=AT_MS, fields=fields)


async def test_a_full_disk_is_waited_for_and_nothing_is_lost(tmp_path: Path):
    tally = Tally(tmp_path / "usage.db")

    def allow(pages: int) -> None:
        tally._sql.execute(f"PRAGMA max_page_count = {pages}")

    with served(tmp_path, "here") as broker:
        async with JetLink(broker.url, name="test") as link:
            assert await link.ready(within_s=20)
            await link.ensure(PLAN)
            counting = Counting(tally, link, EVENTS, "here")
            await counting.on_thread(allow, 1)
            working = [asyncio.create_task(counting.run()), asyncio.create_task(counting.tell())]
            try:
                for number in range(STREAMS):
                    data = msgspec.json.encode(ended(number))
                    await link.put(subject("here", "stream.end"), data, id=f"e-{number}-1", stream=EVENTS)
                await until(lambda: "full" in counting.failing, "the disk takes nothing")
                assert counting.counted < STREAMS
                assert not any(task.done() for task in working), "it waits"
                await counting.on_thread(allow, 1_000_000)
                await until(lambda: counting.counted == STREAMS, "all is counted", within_s=20)
                assert counting.failing == ""
                rows = await counting.on_thread(tally.hourly, 0, 1 << 40)
                assert sum(row.streams for row in rows) == sum(row.completion for row in rows) == STREAMS
            finally:
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
                counting.close()


async def test_a_message_that_is_no_text_is_left_out_and_ends_no_counting(tmp_path: Path):
    with served(tmp_path, "here") as broker:
        async with JetLink(broker.url, name="test") as link:
            assert await link.ready(within_s=20)
            await link.ensure(PLAN)
            stray = msgspec.json.encode(ended(1)).replace(b"tenant-1", b"tenant-\xff")
            deep = msgspec.json.encode(ended(1)).replace(b'"gpu0"', b"[" * 20_000 + b"]" * 20_000)
            for id_, data in (("stray", stray), ("deep", deep), ("e-2-1", msgspec.json.encode(ended(2)))):
                await link.put(subject("here", "stream.end"), data, id=id_, stream=EVENTS)
            counting = Counting(Tally(tmp_path / "usage.db"), link, EVENTS, "here")
            work = asyncio.create_task(counting.run())
            try:
                await until(lambda: counting.counted == 1 or work.done(), "the other one is counted", within_s=20)
                assert (counting.counted, counting.malformed, work.done()) == (1, 2, False)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                counting.close()


pytestmark = pytest.mark.anyio
