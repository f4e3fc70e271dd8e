from __future__ import annotations

import asyncio

import pytest

from streamkit.flow.clock import MONOTONIC, ManualClock
from streamkit.flow.permits import Permit, Permits, QueueFull, QueueTimeout


async def settle() -> None:
    """Let every task that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


def taken(permits: Permits) -> Permit:
    permit = permits.try_acquire()
    assert permit is not None
    return permit


def test_no_more_than_the_limit():
    permits = Permits(2)
    first = taken(permits)
    taken(permits)
    assert permits.try_acquire() is None
    first.release()
    first.release()
    assert permits.in_use == 1


def test_a_limit_may_shrink_under_use():
    permits = Permits(3)
    held = [taken(permits) for _ in range(3)]
    permits.set_limit(1)
    assert permits.in_use == 3
    held[0].release()
    held[1].release()
    assert permits.try_acquire() is None
    held[2].release()
    assert permits.try_acquire() is not None
    with pytest.raises(ValueError, match="negative"):
        permits.set_limit(-1)


@pytest.mark.anyio
async def test_a_release_serves_the_highest_waiter_before_it_returns():
    permits = Permits(1, queue_bound=5)
    held = taken(permits)
    low = asyncio.create_task(permits.acquire(9))
    high = asyncio.create_task(permits.acquire(1))
    await settle()
    assert permits.waiting == 2
    held.release()
    assert permits.in_use == 1, "granted already: nobody can slip in between"
    assert permits.try_acquire() is None
    (await high).release()
    (await low).release()
    assert (permits.in_use, permits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_larger_limit_serves_waiters_at_once():
    permits = Permits(0, queue_bound=5)
    waiting = [asyncio.create_task(permits.acquire(5)) for _ in range(3)]
    await settle()
    permits.set_limit(2)
    assert permits.in_use == 2
    (await waiting[0]).release()
    await asyncio.gather(*waiting)
    assert permits.in_use == 2


@pytest.mark.anyio
async def test_the_queue_is_bounded():
    permits = Permits(0, queue_bound=1)
    waiting = asyncio.create_task(permits.acquire(5))
    await settle()
    with pytest.raises(QueueFull):
        await permits.acquire(1)
    waiting.cancel()
    await settle()
    assert permits.waiting == 0


@pytest.mark.anyio
async def test_a_deadline_ends_the_wait_and_leaves_nothing_behind():
    permits = Permits(1, queue_bound=5)
    held = taken(permits)
    with pytest.raises(QueueTimeout, match="within") as caught:
        await permits.acquire(5, MONOTONIC() + 0.01)
    assert caught.value.waited_ms >= 9
    assert permits.waiting == 0
    held.release()
    assert permits.in_use == 0


@pytest.mark.anyio
async def test_a_deadline_that_has_passed_does_not_wait_but_takes_what_is_free():
    clock = ManualClock(10)
    permits = Permits(1, queue_bound=5, clock=clock)
    permit = await permits.acquire(5, 9.0)
    with pytest.raises(QueueTimeout):
        await permits.acquire(5, 10.0)
    permit.release()
    assert permits.in_use == 0


@pytest.mark.anyio
async def test_a_cancelled_waiter_leaves_the_queue():
    permits = Permits(1, queue_bound=5)
    held = taken(permits)
    gone = asyncio.create_task(permits.acquire(1))
    stays = asyncio.create_task(permits.acquire(5))
    await settle()
    gone.cancel()
    await settle()
    assert permits.waiting == 1
    held.release()
    (await stays).release()
    assert permits.in_use == 0


@pytest.mark.anyio
@pytest.mark.parametrize("order", ["cancel, grant", "grant, cancel"])
async def test_cancelling_in_the_moment_of_the_grant_leaks_nothing(order):
    permits = Permits(1, queue_bound=5)
    held = taken(permits)
    gone = asyncio.create_task(permits.acquire(1))
    stays = asyncio.create_task(permits.acquire(5))
    await settle()
    # Both in one turn of the loop: the waiter has not run in between.
    if order == "cancel, grant":
        gone.cancel()
        held.release()
    else:
        held.release()
        gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    (await stays).release()
    assert (permits.in_use, permits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_grant_in_the_moment_of_the_deadline_is_not_lost():
    clock = ManualClock()
    permits = Permits(1, queue_bound=5, clock=clock)
    held = taken(permits)
    waiter = asyncio.create_task(permits.acquire(5, 0.02))
    await settle()
    held.release()
    await asyncio.sleep(0)
    (await waiter).release()
    assert permits.in_use == 0
