"""Requests that wait for a backend's permit: who goes first, who gives way, and that waiting costs nothing."""

from __future__ import annotations

import pytest

from edge.protocol.states import StreamState
from streamkit.flow.breaker import BreakerState
from streamkit.ops import catalog
from streamkit.wire.backend import Cancels, Capabilities
from streamkit.wire.errors import Code, HeadraceError
from tests.unit.edge.relay.rig import Rig, two
from tests.unit.edge.scripted import DONE, ROLE, candidate, delta, finish, turning

pytestmark = pytest.mark.anyio


def one(**fields: object) -> Rig:
    return Rig([candidate("a", max_inflight=1, **fields)], queue_max=4)


def waits(rig: Rig) -> float:
    return rig.metrics.value(catalog.QUEUE_WAITING)


def endings(rig: Rig) -> dict[str, float]:
    found = {
        name: rig.metrics.value(catalog.QUEUE_WAIT, name)
        for name in ("granted", "expired", "evicted", "shut", "left")
    }
    return {name: count for name, count in found.items() if count}


def code(rig: Rig) -> Code:
    assert rig.stream.error is not None
    return rig.stream.error.code


async def complete(rig: Rig, name: str = "a") -> None:
    upstream = rig.sources[name].last
    for event in (ROLE, delta(), finish(), DONE):
        upstream.feed(event)
    upstream.finish()
    rig.stream.attach(rig.outlet)
    await rig.over_beside()


async def test_a_request_waits_without_an_attempt_until_a_permit_is_free() -> None:
    first = one()
    first.begin(delta())
    second = Rig(beside=first)
    second.relay.start()
    assert waits(first) == 1
    assert second.stream.state is StreamState.PENDING
    assert second.relay.attempts == 0
    assert len(first.sources["a"].opened) == 1
    first.sources["a"].last.feed(finish() + DONE)
    first.sources["a"].last.finish()
    assert len(first.sources["a"].opened) == 2
    assert second.relay.attempts == 1
    assert second.relay.queued_s > 0
    assert endings(first) == {"granted": 1}
    await first.over_beside()
    await complete(second)
    assert waits(first) == 0


async def test_it_takes_the_first_backend_that_has_room_and_retries_at_the_others() -> None:
    a = Rig(two(max_inflight=1), queue_max=4)
    a.begin(delta())
    b = Rig(beside=a)
    b.relay.start()
    waiting = Rig(beside=a)
    waiting.relay.start()
    assert waits(a) == 1
    a.sources["b"].last.feed(delta() + finish() + DONE)
    a.sources["b"].last.finish()
    assert waiting.relay.served_by is not None
    assert waiting.relay.served_by.name == "b"
    a.sources["a"].last.feed(finish() + DONE)
    a.sources["a"].last.finish()
    a.sources["b"].last.break_off()
    assert waiting.relay.attempts == 2
    assert waiting.relay.served_by.name == "a"
    await complete(waiting, "a")
    for done in (a, b):
        await done.over_beside()


async def test_priorities_order_the_queue() -> None:
    first = one()
    first.begin(delta())
    late, low, high = Rig(beside=first), Rig(beside=first, priority=9), Rig(beside=first, priority=1)
    for rig in (low, late, high):
        rig.relay.start()
    served = []
    for _ in range(3):
        first.sources["a"].last.feed(delta() + finish() + DONE)
        first.sources["a"].last.finish()
        served.append(next(rig for rig in (low, late, high) if rig.relay.attempts and rig not in served))
    assert served == [high, late, low]
    first.sources["a"].last.feed(delta() + finish() + DONE)
    first.sources["a"].last.finish()
    for rig in (first, late, low, high):
        await rig.over_beside()


async def test_a_wait_that_is_too_long_is_a_429() -> None:
    first = Rig([candidate("a", max_inflight=1)], queue_max=4, queue_ms=5)
    first.begin(delta())
    second = Rig(beside=first)
    second.relay.start()
    await second.over_beside()
    assert second.reply()[0] == 429
    assert code(second) is Code.SATURATED
    assert second.relay.attempts == 0
    assert endings(first) == {"expired": 1}
    first.leave()
    await first.over_beside()


async def test_without_room_in_the_queue_it_is_a_429_at_once() -> None:
    first = Rig([candidate("a", max_inflight=1)], queue_max=1, evict_classes=0)
    first.begin(delta())
    second, third = Rig(beside=first), Rig(beside=first)
    second.relay.start()
    third.relay.start()
    assert third.reply()[0] == 429
    fourth = Rig(beside=first, priority=4)
    fourth.relay.start()
    assert second.reply()[0] == 503
    assert code(second) is Code.EVICTED
    assert dict(HeadraceError(Code.EVICTED, "").headers())[b"x-headrace-reason"] == b"evicted-priority"
    assert first.metrics.value(catalog.EVICTIONS, "queued") == 1
    fourth.leave()
    assert endings(first) == {"evicted": 1, "left": 1}
    first.leave()
    for rig in (first, second, third, fourth):
        await rig.over_beside()


async def test_a_client_that_leaves_the_queue_costs_nothing() -> None:
    first = one()
    first.begin(delta())
    second = Rig(beside=first)
    second.relay.start()
    second.stream.gone()
    await second.over_beside()
    assert second.relay.attempts == 0
    assert waits(first) == 0
    assert endings(first) == {"left": 1}
    first.leave()
    await first.over_beside()
    assert len(first.sources["a"].opened) == 1


async def test_a_drain_ends_the_waiting_in_words() -> None:
    first = one()
    first.begin(delta())
    second = Rig(beside=first)
    second.relay.start()
    second.relay.stop(HeadraceError(Code.DRAINING, "stopping"))
    assert second.reply()[0] == 503
    assert waits(first) == 0
    await second.over_beside()
    first.leave()
    await first.over_beside()


# Eviction of what runs


async def test_a_high_priority_takes_the_place_of_one_that_has_no_event_yet() -> None:
    low = Rig([candidate("a", max_inflight=1)], queue_max=4, priority=7)
    low.start().feed(ROLE)
    high = Rig(beside=low, priority=2)
    high.relay.start()
    assert low.reply()[0] == 503
    assert code(low) is Code.EVICTED
    assert low.sources["a"].opened[0].cancelled
    assert high.relay.attempts == 0, "the slot is taken until the engine's connection is over (law 3)"
    await turning(lambda: high.relay.attempts == 1)
    assert low.metrics.value(catalog.EVICTIONS, "running") == 1
    assert low.breaker() is BreakerState.CLOSED
    await low.over_beside()
    await complete(high)


async def test_one_whose_answer_has_begun_is_never_evicted() -> None:
    low = Rig([candidate("a", max_inflight=1)], queue_max=4, priority=9)
    low.begin(delta())
    high = Rig(beside=low, priority=1)
    high.relay.start()
    assert low.stream.state is StreamState.COMMITTED
    assert waits(low) == 1
    assert low.metrics.value(catalog.EVICTIONS, "running") == 0
    high.leave()
    low.leave()
    for rig in (low, high):
        await rig.over_beside()


@pytest.mark.parametrize(
    ("theirs", "ours", "fields"),
    [
        (5, 4, {}),  # only classes 1 to 3 evict
        (3, 3, {}),  # an equal is no reason
        (2, 3, {}),
        # Where the engine works on after a close, nothing would become free.
        (9, 1, {"capabilities": Capabilities(cancels_on_close=Cancels(stream=False))}),
    ],
)
async def test_who_may_not_evict_waits(theirs: int, ours: int, fields: dict[str, object]) -> None:
    first = Rig([candidate("a", max_inflight=1, **fields)], queue_max=4, priority=theirs)
    first.start()
    second = Rig(beside=first, priority=ours)
    second.relay.start()
    assert first.stream.state is StreamState.PENDING
    assert waits(first) == 1
    second.leave()
    first.leave()
    for rig in (first, second):
        await rig.over_beside()


async def test_a_whole_answer_under_way_is_not_evicted_for_nobody_sees_how_far_it_is() -> None:
    first = Rig([candidate("a", max_inflight=1)], queue_max=4, priority=9, streaming=False)
    first.start()
    second = Rig(beside=first, priority=1)
    second.relay.start()
    assert first.stream.state is StreamState.PENDING
    second.leave()
    first.leave()
    for rig in (first, second):
        await rig.over_beside()


async def test_the_newest_of_the_lowest_class_gives_way_and_one_only() -> None:
    first = Rig(two(max_inflight=2), queue_max=4, priority=5)
    others = [Rig(beside=first, priority=priority) for priority in (8, 6, 8)]
    for rig in (first, *others):
        rig.relay.start()
    high = Rig(beside=first, priority=1)
    high.relay.start()
    gone = [rig for rig in (first, *others) if rig.stream.state.ended]
    assert gone in ([others[0]], [others[2]])
    assert gone[0].priority == 8
    await turning(lambda: high.relay.attempts == 1)
    for rig in (first, *others, high):
        rig.leave()
    for rig in (first, *others, high):
        await rig.over_beside()


# A breaker that opens meanwhile


async def test_a_backend_that_begins_to_fail_is_no_place_to_wait_for() -> None:
    first = Rig([candidate("a", max_inflight=1)], queue_max=4, failures=1)
    first.begin(delta())
    second, third = Rig(beside=first), Rig(beside=first)
    second.relay.start()
    third.relay.start()
    first.sources["a"].last.break_off()
    for rig in (second, third):
        assert rig.relay.attempts == 0
        assert rig.reply()[0] == 503
        assert code(rig) is Code.NO_BACKEND
    assert endings(first) == {"shut": 2}
    assert waits(first) == 0
    for rig in (first, second, third):
        await rig.over_beside()
    assert first.in_use == 0
