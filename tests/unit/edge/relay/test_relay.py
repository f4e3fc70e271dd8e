"""A request's way through several candidates: retry, failover, giving up, and clients that leave."""

from __future__ import annotations

import asyncio
import gc
import json
from time import monotonic

import pytest

from edge.protocol.states import StreamState
from edge.relay.leg import Leg
from edge.relay.relay import Relay
from edge.streams.stream import Stream
from streamkit.flow.breaker import BreakerState
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from streamkit.wire.errors import Code, HeadraceError
from tests.support.timing import MS
from tests.unit.edge.relay.rig import Rig, two
from tests.unit.edge.scripted import DONE, ERROR, PING, ROLE, USAGE, Upstream, candidate, delta, finish, turning

pytestmark = pytest.mark.anyio
WHOLE = (ROLE, delta(), finish(), DONE)
BUSY = b'{"error":{"message":"busy","code":503}}'


def nothing_left() -> RetryBudget:
    return RetryBudget(ratio=0, floor_per_s=0)


async def serve(rig: Rig, name: str) -> None:
    """Let a backend answer well, and check that the client got exactly that."""
    upstream = rig.sources[name].last
    for event in WHOLE:
        upstream.feed(event)
    upstream.finish()
    rig.stream.attach(rig.outlet)
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.text.removeprefix(PING) == b"".join(WHOLE)
    assert rig.relay.served_by is not None
    assert rig.relay.served_by.name == name


# Retry


@pytest.mark.parametrize("failure", ["broken", "500", "503", "401", "404", "frame", "silent end", "html"])
async def test_another_candidate_takes_over_before_the_first_event(failure: str) -> None:
    rig = Rig(two())
    upstream = rig.start()
    upstream.feed(ROLE)
    match failure:
        case "broken":
            upstream.break_off()
        case "frame":
            upstream.feed(ERROR)
        case "silent end":
            upstream.finish()
        case "html":
            upstream.answer(200, b"<html>", b"text/html")
        case _:
            upstream.answer(int(failure), BUSY)
    assert rig.stream.state is StreamState.PENDING
    assert rig.metrics.value(catalog.RETRIES, "refused") == 1
    assert rig.relay.attempts == 2
    await serve(rig, "b")
    assert rig.attempts("failed") == 1
    assert rig.attempts("done", "b") == 1


async def test_the_first_event_deadline_moves_on_to_the_next_candidate() -> None:
    rig = Rig(two(), first_event_ms=15)
    upstream = rig.start()
    await rig.sources["b"].news.until(lambda: rig.sources["b"].opened)
    assert upstream.cancelled
    await serve(rig, "b")


async def test_nothing_is_retried_after_the_first_event() -> None:
    rig = Rig(two())
    upstream = rig.begin(delta())
    upstream.break_off()
    assert rig.sources["b"].opened == []
    await rig.over()
    assert rig.text.count(DONE) == 1


async def test_each_candidate_is_asked_once_and_the_last_failure_is_told() -> None:
    rig = Rig(two())
    rig.start().answer(500, b'{"error":{"message":"first"}}')
    rig.sources["b"].last.answer(500, b'{"error":{"message":"second"}}')
    assert rig.reply()[0] == 502
    assert b"second" in rig.reply()[1]
    assert rig.relay.attempts == 2
    await rig.over()


async def test_no_more_than_so_many_attempts() -> None:
    rig = Rig([candidate(name) for name in "abcd"], max_attempts=2)
    rig.start().break_off()
    rig.sources["b"].last.break_off()
    assert rig.reply()[0] == 502
    assert rig.sources["c"].opened == []
    await rig.over()


async def test_without_budget_the_first_failure_is_the_answer() -> None:
    budget = nothing_left()
    rig = Rig(two(), budget=budget)
    rig.start().break_off()
    assert rig.reply()[0] == 502
    assert rig.sources["b"].opened == []
    assert budget.refused == 1
    await rig.over()


async def test_every_request_earns_its_part_of_a_retry() -> None:
    budget = RetryBudget(ratio=1, floor_per_s=0)
    rig = Rig(two(), budget=budget)
    rig.start().break_off()
    assert budget.available == 0
    await serve(rig, "b")


# Stale connections


async def test_a_stale_connection_is_one_free_retry_at_the_same_backend() -> None:
    rig = Rig(two(), budget=nothing_left(), failures=1)
    rig.start().break_off(stale=True)
    assert len(rig.sources["a"].opened) == 2
    assert rig.metrics.value(catalog.RETRIES, "stale") == 1
    assert rig.metrics.value(catalog.RETRIES, "refused") == 0
    await serve(rig, "a")
    assert rig.breaker() is BreakerState.CLOSED


async def test_a_second_stale_connection_is_not_free() -> None:
    rig = Rig(two(), budget=nothing_left())
    rig.start().break_off(stale=True)
    rig.sources["a"].last.break_off(stale=True)
    assert len(rig.sources["a"].opened) == 2
    assert rig.sources["b"].opened == []
    assert rig.reply()[0] == 502
    await rig.over()


async def test_a_stale_connection_at_a_backend_that_is_shut_by_now_goes_to_the_next() -> None:
    rig = Rig(two(), failures=1)
    upstream = rig.start()
    ticket = rig.backend(rig.candidates[0]).breaker.permit()
    assert ticket is not None
    ticket.failure()
    upstream.break_off(stale=True)
    assert len(rig.sources["a"].opened) == 1
    await serve(rig, "b")


# Refusals


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_verdict_on_the_request_goes_to_the_client_as_it_is(status: int) -> None:
    rig = Rig(two(), failures=1)
    body = b'{ "error" : {"message":"no", "type":"Bad Request", "param":"x", "code":%d} }' % status
    rig.start().answer(status, body)
    assert rig.reply() == (status, body)
    assert rig.sources["b"].opened == []
    await rig.over()
    assert rig.stream.state is StreamState.FAILED
    assert rig.stream.error is not None
    assert rig.stream.error.code is Code.INVALID_REQUEST
    assert rig.breaker() is BreakerState.CLOSED


async def test_an_unknown_model_is_looked_for_elsewhere_before_it_is_told() -> None:
    rig = Rig(two(), failures=1)
    body = b'{"error":{"message":"no such model","code":404}}'
    rig.start().answer(404, b'{"error":{"message":"not here"}}')
    rig.sources["b"].last.answer(404, body)
    assert rig.reply() == (404, body)
    await rig.over()
    assert [rig.breaker(0), rig.breaker(1)] == [BreakerState.CLOSED] * 2


async def test_a_refusal_that_is_no_json_is_told_in_our_words() -> None:
    rig = Rig()
    rig.start().answer(400, b"<html>nginx</html>", b"text/html")
    status, body = rig.reply()
    assert status == 400
    assert json.loads(body)["error"]["message"]
    assert b"html" not in body
    await rig.over()


async def test_our_credentials_being_wrong_is_no_401_for_the_client() -> None:
    rig = Rig()
    rig.start().answer(401, b'{"error":"Unauthorized"}')
    assert rig.reply()[0] == 502
    await rig.over()


async def test_a_full_engine_is_a_429_with_advice() -> None:
    rig = Rig()
    rig.start().answer(503, BUSY)
    assert rig.stream.reply is not None
    assert rig.reply()[0] == 429
    assert dict(rig.stream.reply.headers)[b"x-should-retry"] == b"true"
    await rig.over()


# Candidates that cannot be tried


async def test_a_full_candidate_is_passed_over() -> None:
    rig = Rig(two(max_inflight=1))
    permit = rig.backend(rig.candidates[0]).permits.try_acquire()
    assert permit is not None
    rig.relay.start()
    assert rig.sources["a"].opened == []
    permit.release()
    await serve(rig, "b")


async def test_all_candidates_full() -> None:
    rig = Rig(two(max_inflight=1))
    permits = [rig.backend(one).permits.try_acquire() for one in rig.candidates]
    rig.relay.start()
    assert rig.reply()[0] == 429
    assert rig.relay.attempts == 0
    for permit in permits:
        assert permit is not None
        permit.release()
    await rig.over()


async def test_all_candidates_shut() -> None:
    rig = Rig(two(), failures=1)
    for one in rig.candidates:
        ticket = rig.backend(one).breaker.permit()
        assert ticket is not None
        ticket.failure()
    rig.relay.start()
    assert rig.stream.reply is not None
    assert rig.reply()[0] == 503
    assert int(dict(rig.stream.reply.headers)[b"retry-after-ms"]) > 1000
    await rig.over()


async def test_no_candidates_at_all() -> None:
    rig = Rig()
    rig.relay._choices._rest.clear()
    rig.relay.start()
    assert rig.reply()[0] == 503
    await rig.over()


async def test_a_failure_with_the_rest_full_is_told_as_that_failure() -> None:
    rig = Rig(two(max_inflight=1))
    permit = rig.backend(rig.candidates[1]).permits.try_acquire()
    assert permit is not None
    rig.start().answer(500, b'{"error":{"message":"broke"}}')
    assert rig.reply()[0] == 502
    assert b"broke" in rig.reply()[1]
    permit.release()
    await rig.over()


# After commit, before the first event


async def test_retry_still_works_after_a_heartbeat() -> None:
    rig = Rig(two(), commit_after_ms=10)
    upstream = rig.start()
    await asyncio.wait_for(rig.stream.decided(), 10)
    assert rig.stream.committed
    upstream.break_off()
    await serve(rig, "b")
    assert rig.text.startswith(PING + ROLE)


@pytest.mark.parametrize("status", [400, 500])
async def test_refusals_after_a_heartbeat_are_in_band(status: int) -> None:
    rig = Rig(commit_after_ms=10)
    upstream = rig.start()
    await asyncio.wait_for(rig.stream.decided(), 10)
    rig.stream.attach(rig.outlet)
    upstream.answer(status, b'{"error":{"message":"because","code":%d}}' % status)
    await rig.over()
    assert rig.stream.reply is None
    assert rig.text.startswith(PING)
    assert rig.text.endswith(DONE)
    assert b"because" in rig.text


# A leg that was given up


async def test_what_a_refused_upstream_still_sends_reaches_nobody() -> None:
    rig = Rig(two())
    rig.sources["a"].ends_on_cancel = False
    old = rig.start()
    old.feed(ERROR)
    old.feed(delta("old"))
    new = rig.sources["b"].last
    new.feed(delta("new"))
    rig.stream.attach(rig.outlet)
    old.feed(delta("old") + finish() + DONE)
    new.feed(finish() + DONE)
    new.finish()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.text == delta("new") + finish() + DONE
    assert rig.in_use == 1, "the old engine may still be at work"
    assert rig.settled == []
    old.finish()
    await rig.over()


async def test_the_client_may_leave_while_an_old_upstream_winds_down() -> None:
    rig = Rig(two())
    rig.sources["a"].ends_on_cancel = False
    old = rig.start()
    old.feed(ERROR)
    rig.leave()
    await turning(lambda: rig.sources["b"].last.over)
    assert (rig.in_use, rig.settled) == (1, [])
    old.finish()
    await rig.over()


# Clients that leave


@pytest.mark.parametrize("phase", ["waiting", "role", "flowing", "paused"])
async def test_a_client_that_leaves_stops_the_upstream_at_once(phase: str) -> None:
    rig = Rig(failures=1)
    upstream = rig.start()
    if phase == "role":
        upstream.feed(ROLE)
    if phase in ("flowing", "paused"):
        upstream.feed(delta())
        rig.stream.attach(rig.outlet)
    if phase == "paused":
        rig.outlet.open = False
        upstream.feed(delta())
    rig.stream.gone()
    assert upstream.cancelled
    assert rig.in_use == 1, "until the upstream has ended"
    await rig.over()
    assert rig.stream.state is StreamState.CANCELLED
    assert rig.attempts("cancelled") == 1
    assert rig.breaker() is BreakerState.CLOSED


async def test_a_client_that_leaves_before_the_start() -> None:
    rig = Rig()
    rig.leave()
    assert rig.settled == [rig.relay]
    assert rig.sources["a"].opened == []


async def test_after_the_finish_reason_usage_gets_a_moment() -> None:
    rig = Rig(finish_grace_ms=1000)
    upstream = rig.begin(delta(), finish())
    rig.leave()
    assert not upstream.cancelled
    upstream.feed(USAGE + DONE)
    upstream.finish()
    await rig.over()
    assert not upstream.cancelled
    assert rig.relay.usage is not None
    assert rig.relay.usage.completion_tokens == 4


async def test_the_moment_is_short() -> None:
    rig = Rig(finish_grace_ms=20)
    upstream = rig.begin(delta(), finish())
    left = monotonic()
    rig.leave()
    await rig.over()
    assert upstream.cancelled
    assert monotonic() - left >= 19 * MS


async def test_one_choice_of_two_being_finished_is_no_reason_to_wait() -> None:
    rig = Rig(fields=',"n":2', finish_grace_ms=1000)
    upstream = rig.begin(delta(), finish(index=0))
    rig.stream.gone()
    assert upstream.cancelled
    await rig.over()


async def test_a_reader_that_was_cut_stops_the_upstream() -> None:
    rig = Rig(slow_reader_ms=10)
    upstream = rig.begin(delta())
    rig.outlet.open = False
    upstream.feed(delta())
    await asyncio.wait_for(rig.stream.ended(), 10)
    assert upstream.cancelled
    assert rig.outlet.aborted
    await rig.over()
    assert rig.stream.error is not None
    assert rig.stream.error.code is Code.SLOW_READER


@pytest.mark.parametrize("phase", ["waiting", "flowing"])
async def test_a_request_that_is_stopped_says_so_and_gives_its_upstream_up(phase: str) -> None:
    rig = Rig()
    upstream = rig.begin(delta()) if phase == "flowing" else rig.start()
    rig.relay.stop(HeadraceError(Code.DRAINING, "The gateway goes down."))
    assert upstream.cancelled
    if phase == "flowing":
        assert rig.text.endswith(DONE)
        assert b"draining" in rig.text
    else:
        assert rig.reply()[0] == 503
    await rig.over()


@pytest.mark.parametrize("end", ["done", "refused", "gone", "retried"])
async def test_a_request_leaves_no_cycle_for_the_collector(end: str) -> None:
    kinds = (Relay, Leg, Stream, Upstream)

    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if type(thing) in kinds]

    async def live() -> None:
        rig = Rig(two(), heartbeat_ms=1000, first_event_ms=1000, idle_ms=1000)
        upstream = rig.start()
        match end:
            case "done":
                rig.leave()
            case "refused":
                upstream.answer(400, b'{"error":{"message":"no"}}')
            case "retried":
                upstream.break_off()
                rig.leave()
            case _:
                upstream.feed(delta())
                rig.stream.attach(rig.outlet)
                rig.stream.gone()
        await rig.over()
        rig.settled.clear()
        for source in rig.sources.values():
            source.opened.clear()

    gc.collect()
    before = len(alive())
    gc.disable()
    try:
        await live()
        # The loop lets go of what it has called in its next turns.
        await turning(lambda: len(alive()) <= before)
    finally:
        gc.enable()
