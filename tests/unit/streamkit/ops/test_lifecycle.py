from __future__ import annotations

import asyncio

import pytest

from streamkit.ops.lifecycle import TRANSITIONS, Lifecycle, State

pytestmark = pytest.mark.anyio


def life() -> Lifecycle:
    return Lifecycle(settle_ms=0, drain_ms=0)


async def test_the_usual_life():
    ours, told = life(), []
    ours.on_drain += [lambda: told.append(1), lambda: told.append(2)]
    assert (ours.state, ours.ready, ours.draining) == (State.STARTING, False, False)
    ours.started()
    assert ours.ready
    ours.interrupt()
    assert (ours.state, ours.ready, ours.draining, ours.forced) == (State.DRAINING, False, True, False)
    ours.begin_drain()
    assert told == [1, 2]
    await asyncio.wait_for(ours.drain_begun(), 1)
    ours.interrupt()
    assert ours.forced
    await asyncio.wait_for(ours.force_begun(), 1)
    ours.on_finished.append(lambda: told.append(3))
    ours.finished()
    ours.finished()
    assert told == [1, 2, 3]
    ours.stopped()
    ours.stopped()
    assert ours.state is State.STOPPED


async def test_a_signal_before_ready_wins():
    ours = life()
    ours.interrupt()
    ours.started()
    assert ours.state is State.DRAINING
    assert not ours.ready


async def test_nothing_follows_stopped():
    ours = life()
    ours.stopped()
    ours.begin_drain()
    assert ours.state is State.STOPPED
    assert not ours.draining


async def test_a_ready_process_stops_only_through_its_drain():
    ours = life()
    ours.started()
    with pytest.raises(RuntimeError, match="ready process cannot become stopped"):
        ours.stopped()


async def test_every_state_is_in_the_table():
    assert set(TRANSITIONS) == set(State)


async def test_a_service_without_work_is_idle():
    await asyncio.wait_for(asyncio.ensure_future(life().idle()), 1)
