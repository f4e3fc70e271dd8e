from __future__ import annotations

import asyncio

import pytest

from streamkit.flow.channel import (
    BrokenResourceError,
    BusyResourceError,
    Channel,
    ClosedResourceError,
    EndOfStream,
    WouldBlock,
)
from streamkit.flow.policy import Disconnect, DropOldest, Latest, Pause


class Source:
    """What a paused source would be told."""

    def __init__(self, high: int, low: int | None = None) -> None:
        self.calls: list[str] = []
        self.policy = Pause(
            high, low, on_pause=lambda: self.calls.append("pause"), on_resume=lambda: self.calls.append("resume")
        )


async def waiting_reader(channel: Channel[str]) -> asyncio.Task[str]:
    reader = asyncio.create_task(channel.get())
    await asyncio.sleep(0)
    assert channel.statistics().reader_waits
    return reader


def filled(channel: Channel[str], text: str) -> Channel[str]:
    for letter in text:
        channel.put_nowait(letter, 1)
    return channel


def rest(channel: Channel[str]) -> str:
    read = ""
    while channel.statistics().items:
        read += channel.get_nowait()
    return read


def test_pause_loses_nothing_and_is_bounded():
    source = Source(4, 1)
    channel: Channel[str] = filled(Channel(6, source.policy), "abcde")
    assert source.calls == ["pause"]
    filled(channel, "f")
    with pytest.raises(WouldBlock, match="6 of 6"):
        channel.put_nowait("g", 1)
    assert rest(channel) == "abcdef"
    assert source.calls == ["pause", "resume"]
    assert channel.statistics().dropped_items == 0


def test_drop_oldest_keeps_the_newest_that_fit():
    channel: Channel[str] = filled(Channel(3, DropOldest()), "abcde")
    assert rest(channel) == "cde"
    filled(channel, "ab")
    channel.put_nowait("big", 3)
    assert rest(channel) == "big"
    assert channel.statistics().dropped_items == 4
    with pytest.raises(WouldBlock):
        channel.put_nowait("too big", 4)


def test_latest_keeps_one():
    channel: Channel[str] = filled(Channel(3, Latest()), "abc")
    assert rest(channel) == "c"
    assert channel.statistics()[4:6] == (2, 2)


def test_disconnect_breaks_at_the_first_that_does_not_fit():
    channel: Channel[str] = filled(Channel(3, Disconnect()), "abc")
    with pytest.raises(BrokenResourceError) as caught:
        channel.put_nowait("d", 1)
    assert isinstance(caught.value.__cause__, WouldBlock)
    with pytest.raises(BrokenResourceError):
        channel.get_nowait()
    assert channel.statistics().items == 0


def test_items_are_bounded_too():
    channel: Channel[str] = Channel(100, DropOldest(), limit_items=2)
    assert rest(filled(channel, "abc")) == "bc"


def test_limits_and_sizes_must_make_sense():
    with pytest.raises(ValueError, match="positive limits"):
        Channel(0, Latest())
    with pytest.raises(ValueError, match="-1 bytes"):
        Channel(1, Latest()).put_nowait("a", -1)


def test_a_closed_channel_is_read_to_its_end():
    channel: Channel[str] = filled(Channel(3, DropOldest()), "ab")
    with pytest.raises(WouldBlock):
        filled(Channel(3, DropOldest()), "").get_nowait()
    channel.close()
    with pytest.raises(ClosedResourceError):
        channel.put_nowait("c", 1)
    assert rest(channel) == "ab"
    with pytest.raises(EndOfStream):
        channel.get_nowait()


def test_an_abort_drops_all_and_lets_the_source_go_on():
    source = Source(1)
    channel: Channel[str] = filled(Channel(6, source.policy), "abc")
    channel.abort(OSError("reset"))
    channel.abort(OSError("later"))
    assert source.calls == ["pause", "resume"]
    for call in (channel.get_nowait, lambda: channel.put_nowait("d", 1)):
        with pytest.raises(BrokenResourceError) as caught:
            call()
        assert str(caught.value.__cause__) == "reset"


@pytest.mark.anyio
async def test_a_reader_waits_for_an_item():
    channel: Channel[str] = Channel(3, DropOldest())
    reader = await waiting_reader(channel)
    filled(channel, "ab")
    assert await reader == "a"
    assert await channel.get() == "b"


@pytest.mark.anyio
async def test_a_waiting_reader_learns_of_the_end():
    channel: Channel[str] = Channel(3, DropOldest())
    reader = await waiting_reader(channel)
    channel.close()
    with pytest.raises(EndOfStream):
        await reader


@pytest.mark.anyio
async def test_a_waiting_reader_learns_of_an_abort():
    channel: Channel[str] = Channel(3, DropOldest())
    reader = await waiting_reader(channel)
    channel.abort(OSError("reset"))
    with pytest.raises(BrokenResourceError):
        await reader


@pytest.mark.anyio
async def test_there_is_one_reader():
    channel: Channel[str] = Channel(3, DropOldest())
    reader = await waiting_reader(channel)
    with pytest.raises(BusyResourceError):
        await channel.get()
    filled(channel, "a")
    assert await reader == "a"


@pytest.mark.anyio
async def test_a_reader_cancelled_in_the_moment_of_an_item_loses_nothing():
    channel: Channel[str] = Channel(3, DropOldest())
    reader = await waiting_reader(channel)
    filled(channel, "a")
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await channel.get() == "a"
