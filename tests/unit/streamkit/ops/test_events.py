from __future__ import annotations

import asyncio

import pytest

from streamkit.ops.events import EventFeed, FeedFull

pytestmark = pytest.mark.anyio


async def test_everybody_hears_everything_in_order():
    feed = EventFeed()
    with feed.subscribe() as one, feed.subscribe() as two:
        assert feed.subscribers == 2
        feed.publish("backend.up", {"name": "a"})
        feed.publish("backend.down", {"name": "a"})
        feed.close()
        for reader in (one, two):
            assert [(name, data) async for name, data in reader] == [
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
        assert (await asyncio.wait_for(waiting, 1)).name == "x"
        waiting = asyncio.ensure_future(anext(reader, None))
        await asyncio.sleep(0)
        feed.close()
        assert await asyncio.wait_for(waiting, 1) is None


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
