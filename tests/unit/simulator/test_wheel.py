from __future__ import annotations

import asyncio
import time

import pytest

from simulator.wheel import Wheel


@pytest.mark.anyio
async def test_items_come_back_in_the_order_of_their_time_and_not_early() -> None:
    seen: list[tuple[int, float]] = []
    done = asyncio.Event()

    def on_due(items: list[int], now: float) -> None:
        seen.extend((item, now) for item in items)
        if len(seen) == 4:
            done.set()

    wheel = Wheel(asyncio.get_running_loop(), on_due)
    start = time.monotonic()
    due = {1: start + 0.020, 2: start + 0.005, 3: start + 0.020, 4: start - 1}
    for item, at in due.items():
        wheel.add(item, at)
    await asyncio.wait_for(done.wait(), 5)
    wheel.close()
    assert [item for item, _ in seen] == [4, 2, 1, 3]
    assert all(now >= due[item] - 0.001 for item, now in seen)


@pytest.mark.anyio
async def test_items_may_be_added_while_the_wheel_turns() -> None:
    count = 0
    done = asyncio.Event()

    def on_due(items: list[str], now: float) -> None:
        nonlocal count
        count += len(items)
        if count >= 200:
            done.set()
        else:
            for item in items:
                wheel.add(item, now)

    wheel = Wheel(asyncio.get_running_loop(), on_due)
    wheel.add("a", 0.0)
    wheel.add("b", 0.0)
    await asyncio.wait_for(done.wait(), 5)
    wheel.close()


@pytest.mark.anyio
async def test_a_closed_wheel_stands_still() -> None:
    seen: list[int] = []
    wheel = Wheel(asyncio.get_running_loop(), lambda items, _: seen.extend(items))
    wheel.add(1, time.monotonic())
    wheel.close()
    await asyncio.sleep(0.01)
    assert seen == []
