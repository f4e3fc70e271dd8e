"""A late attempt gets another one beside it: the first event wins, and everything of the loser comes back."""

from __future__ import annotations

import pytest

from edge.protocol.states import StreamState
from streamkit.flow.breaker import BreakerState
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from tests.unit.edge.relay.rig import Rig, two
from tests.unit.edge.scripted import DONE, ROLE, Upstream, candidate, delta, finish, turning

pytestmark = pytest.mark.anyio


def hedges(rig: Rig) -> dict[str, float]:
    names = ("won", "lost", "failed", "busy", "budget", "room")
    return {name: count for name in names if (count := rig.metrics.value(catalog.HEDGES, name))}


async def late(rig: Rig) -> tuple[Upstream, Upstream]:
    """Start, and wait for the hedge; return both upstreams."""
    first = rig.start()
    first.feed(ROLE)
    await rig.sources["b"].news.until(lambda: rig.sources["b"].opened)
    return first, rig.sources["b"].last


async def complete(rig: Rig, upstream: Upstream, *, begun: bool = False) -> None:
    if not begun:
        upstream.feed(ROLE + delta("w"))
    upstream.feed(finish() + DONE)
    upstream.finish()
    rig.stream.attach(rig.outlet)
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED


@pytest.mark.parametrize("winner", ["a", "b"])
async def test_the_first_event_wins_and_the_loser_is_cancelled(winner: str) -> None:
    rig = Rig(two(), hedge_after_ms=5)
    first, second = await late(rig)
    assert rig.in_use == 2, "both hold a permit"
    assert rig.relay.attempts == 2
    won, lost = (first, second) if winner == "a" else (second, first)
    won.feed(ROLE + delta("w"))
    assert lost.cancelled
    assert not won.cancelled
    lost.feed(delta("lost"))
    assert rig.relay.served_by is not None
    assert rig.relay.served_by.name == winner
    await turning(lambda: rig.in_use == 1)
    assert hedges(rig) == {"lost" if winner == "a" else "won": 1}
    await complete(rig, won, begun=True)
    assert b"lost" not in rig.text
    loser = "b" if winner == "a" else "a"
    assert rig.attempts("cancelled", loser) == 1
    assert rig.attempts("done", winner) == 1
    assert rig.breaker(0) is rig.breaker(1) is BreakerState.CLOSED
    assert rig.metrics.value(catalog.RETRIES, "refused") == 0


async def test_a_permit_is_held_until_the_losers_upstream_is_over() -> None:
    rig = Rig(two(), hedge_after_ms=5)
    rig.sources["a"].ends_on_cancel = False
    first, second = await late(rig)
    second.feed(delta("w"))
    await complete_without_over(rig, second)
    assert rig.in_use == 1
    assert rig.settled == []
    first.break_off()
    await rig.over()


async def complete_without_over(rig: Rig, upstream: Upstream) -> None:
    upstream.feed(finish() + DONE)
    upstream.finish()
    rig.stream.attach(rig.outlet)
    assert rig.stream.state is StreamState.FINISHED


async def test_when_one_fails_the_other_goes_on_without_a_retry() -> None:
    rig = Rig(two(), hedge_after_ms=5, budget=RetryBudget(ratio=0, floor_per_s=0))
    first, second = await late(rig)
    first.answer(500, b"{}")
    assert rig.stream.state is StreamState.PENDING
    await complete(rig, second)
    assert rig.relay.attempts == 2


async def test_a_hedge_that_fails_is_nobodys_business() -> None:
    rig = Rig(two(), hedge_after_ms=5, budget=RetryBudget(ratio=0, floor_per_s=0))
    first, second = await late(rig)
    second.break_off()
    assert hedges(rig) == {"failed": 1}
    await complete(rig, first)


async def test_when_both_fail_the_rest_is_tried() -> None:
    rig = Rig([candidate(name) for name in "abc"], hedge_after_ms=5)
    first, second = await late(rig)
    second.break_off()
    first.break_off()
    await complete(rig, rig.sources["c"].last)
    assert rig.relay.attempts == 3


async def test_a_quick_first_event_costs_no_hedge() -> None:
    rig = Rig(two(), hedge_after_ms=5)
    upstream = rig.begin(delta())
    await rig.sources["a"].news.until(lambda: True)
    upstream.feed(finish() + DONE)
    upstream.finish()
    await rig.over()
    assert rig.sources["b"].opened == []
    assert hedges(rig) == {}


async def test_without_budget_or_room_or_while_others_wait_nobody_hedges() -> None:
    rig = Rig(two(), hedge_after_ms=1, hedges=RetryBudget(ratio=0, floor_per_s=0))
    rig.start()
    await turning(lambda: hedges(rig) == {"budget": 1})
    rig.leave()
    await rig.over()

    rig = Rig(two(max_inflight=1), hedge_after_ms=1)
    taken = rig.backend(rig.candidates[1]).permits.try_acquire()
    assert taken is not None
    rig.start()
    await turning(lambda: hedges(rig) == {"room": 1})
    taken.release()
    rig.leave()
    await rig.over()

    rig = Rig(two(max_inflight=1), hedge_after_ms=1, queue_max=1)
    rig.start()
    beside = Rig(beside=rig, candidates=[rig.candidates[0]])
    beside.relay.start()
    await turning(lambda: hedges(rig) == {"busy": 1})
    beside.leave()
    rig.leave()
    for one in (beside, rig):
        await one.over_beside()


async def test_only_the_same_model_is_asked_beside() -> None:
    rig = Rig([candidate("a"), candidate("b", rank=1)], hedge_after_ms=1)
    rig.start()
    await turning(lambda: rig.relay._hedge_alarm is None)
    assert rig.sources["b"].opened == []
    rig.leave()
    await rig.over()


@pytest.mark.parametrize("how", ["gone", "stop", "evict"])
async def test_whoever_ends_it_ends_both(how: str) -> None:
    from streamkit.wire.errors import Code, HeadraceError

    rig = Rig(two(), hedge_after_ms=5)
    first, second = await late(rig)
    match how:
        case "gone":
            rig.stream.gone()
        case "stop":
            rig.relay.stop(HeadraceError(Code.DRAINING, "stopping"))
        case _:
            rig.relay.evict(HeadraceError(Code.EVICTED, "evicted"))
    assert first.cancelled
    assert second.cancelled
    await rig.over()
    assert not any(rig.backend(one).unborn for one in rig.candidates)
