from __future__ import annotations

import asyncio
import json

import pytest

from streamkit.ops.events import EVERYTHING, LOST, EventFeed, EventId, FeedFull
from tests.support.timing import SOON_S

pytestmark = pytest.mark.anyio


async def test_everybody_hears_everything_in_order():
    feed = EventFeed()
    with feed.subscribe() as one, feed.subscribe() as two:
        assert feed.subscribers == 2
        feed.publish("backend.up", {"name": "a"})
        feed.publish("backend.down", {"name": "a"})
        feed.close()
        for reader in (one, two):
            assert [(event.name, event.data) async for event in reader] == [
                ("backend.up", b'{"name":"a"}'),
                ("backend.down", b'{"name":"a"}'),
            ]
    assert feed.subscribers == 0


async def test_a_slow_subscriber_is_dropped_and_counted_and_the_others_are_not():
    feed = EventFeed(backlog_bytes=64)
    with feed.subscribe() as slow, feed.subscribe() as quick:
        for number in range(20):
            feed.publish("n", {"number": number})
            assert (await anext(quick)).data == b'{"number":%d}' % number
        assert slow.dropped
        assert not quick.dropped
        assert feed.dropped == 1
        assert [event async for event in slow] == []


async def test_a_reader_that_waits_is_woken():
    feed = EventFeed()
    with feed.subscribe() as reader:
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        feed.publish("x", {})
        assert (await asyncio.wait_for(waiting, SOON_S)).name == "x"
        waiting = asyncio.ensure_future(anext(reader, None))
        await asyncio.sleep(0)
        feed.close()
        assert await asyncio.wait_for(waiting, SOON_S) is None


async def test_there_is_room_for_so_many_and_no_more():
    feed = EventFeed(max_subscribers=1)
    with feed.subscribe(), pytest.raises(FeedFull), feed.subscribe():
        pass
    with feed.subscribe():
        pass


async def test_a_closed_feed_ends_at_once():
    feed = EventFeed()
    feed.close()
    with feed.subscribe() as reader:
        assert [event async for event in reader] == []


async def read_after(feed: EventFeed, after: str | None, count: int) -> list[tuple[str, bytes]]:
    with feed.subscribe(after) as reader:
        return [(event.name, event.data) for event in [await anext(reader) for _ in range(count)]]


async def test_a_reader_that_comes_back_goes_on_where_it_was():
    feed = EventFeed(now=lambda: 1_700_000_000.5)
    for number in range(5):
        feed.publish("n", {"number": number})
    with feed.subscribe(EVERYTHING) as reader:
        seen = [await anext(reader) for _ in range(2)]
    assert [event.id for event in seen] == [EventId(feed.life, number, 1_700_000_000_500) for number in (1, 2)]
    feed.close()
    with feed.subscribe(str(seen[-1].id)) as reader:
        assert [event.data async for event in reader] == [b'{"number":%d}' % number for number in (2, 3, 4)]
    with feed.subscribe() as reader:
        assert [event async for event in reader] == []


async def test_an_id_of_another_life_or_none_at_all_means_everything():
    feed = EventFeed()
    feed.publish("a", {})
    for after in (EVERYTHING, "other-17-5", "", "nonsense"):
        assert await read_after(feed, after, 1) == [("a", b"{}")]


async def test_what_is_kept_is_bounded_in_bytes_and_what_was_lost_is_told():
    feed = EventFeed(history_bytes=1_500)
    ids = []
    with feed.subscribe() as reader:
        for number in range(20):
            feed.publish("n", {"number": number})
            ids.append(str((await anext(reader)).id))
    assert 1_000 < feed.history_bytes <= 1_500
    feed.close()
    with feed.subscribe(ids[2]) as reader:
        events = [event async for event in reader]
    assert events[0].name == LOST
    kept = [event.id.number for event in events[1:]]
    assert kept == list(range(kept[0], 21))
    assert events[0].data == b'{"count":%d}' % (kept[0] - 1 - 3)
    # It may come back behind the gap.
    with feed.subscribe(str(events[0].id)) as reader:
        assert [event.id.number async for event in reader] == kept


async def test_a_reader_of_an_earlier_life_is_told_what_of_this_one_is_gone():
    feed = EventFeed(history_bytes=3 * (256 + 2), now=lambda: 1.5)
    for _ in range(10):
        feed.publish("x", {})
    async with asyncio.timeout(SOON_S):
        found = await read_after(feed, "another-3-1000", 4)
    assert found[0][0] == LOST
    assert json.loads(found[0][1]) == {"count": 7}
    assert [name for name, _ in found[1:]] == ["x"] * 3
    # Who has read nothing yet asked for what there is.
    assert [name for name, _ in await read_after(feed, EVERYTHING, 3)] == ["x"] * 3
