"""Things made once: shared by those who ask at the same time, bounded in bytes, never dropped while in use."""

from __future__ import annotations

import asyncio

import pytest

from compositor.shelf import Shelf
from streamkit.wire.errors import Code, HeadraceError


def maker(made: list, value: bytes, gate: asyncio.Event | None = None):
    async def make() -> bytes:
        if gate is not None:
            await gate.wait()
        made.append(value)
        return value

    return make


def test_many_askers_share_one_making_and_one_that_leaves_harms_nobody():
    async def scenario() -> None:
        shelf, made, gate = Shelf(100, len, "frames_mb"), [], asyncio.Event()
        askers = [asyncio.create_task(shelf.hold("a", maker(made, b"12345", gate))) for _ in range(3)]
        await asyncio.sleep(0)
        askers[0].cancel()
        gate.set()
        assert await asyncio.gather(*askers[1:]) == [b"12345"] * 2
        assert (made, shelf.users, shelf.misses, shelf.hits) == ([b"12345"], 2, 1, 2)
        for _ in range(2):
            shelf.release("a")
        assert (shelf.users, shelf.used_bytes) == (0, 5)
        with pytest.raises(RuntimeError, match="more often"):
            shelf.release("a")

    asyncio.run(scenario())


def test_what_was_used_longest_ago_goes_and_what_is_in_use_stays():
    async def scenario() -> None:
        shelf, made = Shelf(10, len, "frames_mb"), []
        for key in "ab":
            await shelf.hold(key, maker(made, b"1234"))
        shelf.release("a")
        shelf.release("b")
        await shelf.hold("a", maker(made, b"1234"))
        await shelf.hold("c", maker(made, b"1234"))
        assert shelf.used_bytes == 8
        with pytest.raises(HeadraceError, match=r"4 bytes are needed, 2 are free \(frames_mb\)") as caught:
            await shelf.hold("b", maker(made, b"1234"))
        assert caught.value.code is Code.SATURATED
        shelf.release("a")
        await shelf.hold("b", maker(made, b"1234"))
        assert (len(shelf), shelf.used_bytes, len(made)) == (2, 8, 5)

    asyncio.run(scenario())


def test_a_making_that_fails_is_told_to_all_and_tried_again():
    async def scenario() -> None:
        shelf = Shelf(10, len, "frames_mb")

        async def broken() -> bytes:
            raise HeadraceError(Code.NOT_FOUND, "nothing there")

        found = await asyncio.gather(*(shelf.hold("a", broken) for _ in range(2)), return_exceptions=True)
        assert [str(error) for error in found] == ["nothing there"] * 2
        assert await shelf.hold("a", maker([], b"1")) == b"1"

    asyncio.run(scenario())
