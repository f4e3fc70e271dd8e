"""A stream between a relay and an outlet, both played by the test; only the clock is real."""

from __future__ import annotations

import asyncio
import gc
from time import monotonic

import pytest

from edge.protocol.states import LocalProtocolError, StreamState
from edge.streams.contracts import Outcome, Reply, UpstreamRequest
from edge.streams.stream import Stream
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.errors import Code, HeadraceError
from tests.support.timing import MS
from tests.unit.edge.scripted import DEADLINE_S, DONE, ERROR, PING, Outlet, Upstream, delta, stream

pytestmark = pytest.mark.anyio
BOOM = HeadraceError(Code.BACKEND_ERROR, "boom")


class NullSink:
    def sent(self) -> None: ...
    def feed(self, batch: object) -> None: ...
    def end(self, outcome: Outcome) -> None: ...


def upstream() -> Upstream:
    request = UpstreamRequest(path=b"/", body=b"", stream=True)
    return Upstream(request, NullSink(), ends_on_cancel=False)


def flowing(metrics: Metrics | None = None, **deadlines: float) -> tuple[Stream, Outlet, Upstream]:
    """Return a stream whose first event is out."""
    made, outlet, attempt = stream(metrics or Metrics(), **deadlines), Outlet(), upstream()
    made.upstream = attempt
    made.feed(delta(), 1, monotonic())
    made.attach(outlet)
    return made, outlet, attempt


# Commit


async def test_the_first_event_commits_and_what_was_held_goes_out_first_in_one_write() -> None:
    made, outlet = stream(Metrics()), Outlet()
    assert (made.state, made.committed) == (StreamState.PENDING, False)
    made.feed(delta("a"), 1, monotonic())
    await asyncio.wait_for(made.decided(), DEADLINE_S)
    assert (made.state, made.committed) == (StreamState.COMMITTED, True)
    made.feed(delta("b"), 1, monotonic())
    assert made.backlog_bytes == 2 * len(delta())
    made.attach(outlet)
    made.feed(delta("c"), 1, monotonic())
    assert outlet.writes == [delta("a") + delta("b"), delta("c")]
    assert made.backlog_bytes == 0
    made.finish()


async def test_without_an_event_it_commits_at_the_deadline_with_a_heartbeat() -> None:
    metrics = Metrics()
    made, outlet, began = stream(metrics, commit_after_ms=20), Outlet(), monotonic()
    await asyncio.wait_for(made.decided(), DEADLINE_S)
    assert monotonic() - began >= 19 * MS
    assert made.state is StreamState.COMMITTED
    assert made.reply is None
    made.attach(outlet)
    assert outlet.writes == [PING]
    assert metrics.value(catalog.HEARTBEATS) == 1
    made.feed(delta(), 1, monotonic())
    assert outlet.writes == [PING, delta()]
    made.finish()


async def test_an_event_takes_the_commit_deadline_s_place() -> None:
    made, outlet, _ = flowing(commit_after_ms=10, heartbeat_ms=60)
    began = monotonic()
    await outlet.news.until(lambda: PING in outlet.writes)
    assert monotonic() - began >= 50 * MS
    made.finish()


# Heartbeats


async def test_heartbeats_come_after_silence_only_and_again() -> None:
    made, outlet, _ = flowing(heartbeat_ms=40)
    loop, fed = asyncio.get_running_loop(), 0

    def live() -> None:
        nonlocal fed
        made.feed(delta(), 1, monotonic())
        fed += 1
        if fed < 10:
            loop.call_later(8 * MS, live)

    live()
    await outlet.news.until(lambda: outlet.writes.count(PING) == 2)
    assert outlet.writes == [delta()] * 11 + [PING, PING]
    made.finish()


async def test_a_paused_reader_is_sent_no_heartbeat() -> None:
    metrics = Metrics()
    made, outlet, _ = flowing(metrics, heartbeat_ms=5, slow_reader_ms=60)
    outlet.open = False
    made.feed(delta(), 1, monotonic())
    await outlet.news.until(lambda: outlet.aborted)
    assert PING not in outlet.writes
    assert metrics.value(catalog.HEARTBEATS) == 0


async def test_no_heartbeat_follows_the_end() -> None:
    made, outlet, _ = flowing(heartbeat_ms=5)
    made.finish()
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(30 * MS, rung.set)
    await asyncio.wait_for(rung.wait(), DEADLINE_S)
    assert outlet.writes == [delta()]


# Ends


async def test_a_failure_before_anything_was_sent_is_a_status() -> None:
    made = stream(Metrics())
    made.fail(HeadraceError(Code.SATURATED, "full"))
    await asyncio.wait_for(made.decided(), DEADLINE_S)
    await asyncio.wait_for(made.ended(), DEADLINE_S)
    assert made.state is StreamState.FAILED
    assert not made.committed
    assert made.reply is not None
    assert made.reply.status == 429
    assert b"full" in made.reply.body
    assert (b"x-should-retry", b"true") in made.reply.headers


async def test_a_failure_after_commit_is_a_frame_and_done() -> None:
    made, outlet, _ = flowing()
    made.fail(BOOM)
    assert outlet.writes == [delta(), BOOM.frame() + DONE]
    assert (made.state, made.error, made.reply) == (StreamState.FAILED, BOOM, None)


async def test_the_engines_own_frame_takes_the_place_of_ours() -> None:
    made, outlet, _ = flowing()
    made.fail(BOOM, ERROR)
    assert outlet.writes == [delta(), ERROR + DONE]


async def test_a_failure_between_commit_and_headers_waits_its_turn() -> None:
    made, outlet = stream(Metrics()), Outlet()
    made.feed(delta(), 1, monotonic())
    made.fail(BOOM)
    made.attach(outlet)
    assert outlet.text == delta() + BOOM.frame() + DONE


async def test_only_the_first_failure_counts() -> None:
    made, outlet, _ = flowing()
    made.fail(BOOM)
    made.fail(HeadraceError(Code.INTERNAL, "later"))
    assert made.error is BOOM
    assert outlet.text.count(b"[DONE]") == 1
    with pytest.raises(LocalProtocolError):
        made.finish()


async def test_nothing_is_written_behind_the_end() -> None:
    made, outlet, _ = flowing()
    made.feed(DONE, 1, monotonic())
    made.finish()
    made.feed(delta("late"), 1, monotonic())
    assert outlet.text == delta() + DONE


async def test_nothing_is_held_behind_the_end_either() -> None:
    made, outlet = stream(Metrics()), Outlet()
    made.feed(delta() + DONE, 2, monotonic())
    made.finish()
    made.feed(delta("late"), 1, monotonic())
    made.attach(outlet)
    made.feed(delta("later"), 1, monotonic())
    assert outlet.writes == [delta() + DONE]


@pytest.mark.parametrize(("status", "state"), [(200, StreamState.FINISHED), (400, StreamState.FAILED)])
async def test_a_whole_answer_ends_the_request(status: int, state: StreamState) -> None:
    made = stream(Metrics(), streaming=False)
    reply = Reply(status=status, body=b"{}")
    made.answer(reply)
    await asyncio.wait_for(made.ended(), DEADLINE_S)
    assert (made.state, made.reply, made.committed) == (state, reply, False)


async def test_a_request_for_a_whole_answer_never_commits_by_itself() -> None:
    made = stream(Metrics(), streaming=False, commit_after_ms=2, heartbeat_ms=2)
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(20 * MS, rung.set)
    await asyncio.wait_for(rung.wait(), DEADLINE_S)
    assert made.state is StreamState.PENDING
    assert made.backlog_bytes == 0
    made.gone()


# Gone


@pytest.mark.parametrize("phase", ["pending", "committed", "attached", "paused"])
async def test_a_client_that_is_gone_cancels_once(phase: str) -> None:
    made, outlet, attempt = stream(Metrics()), Outlet(), upstream()
    made.upstream = attempt
    told: list[StreamState] = []
    made.on_gone = lambda: told.append(made.state)
    if phase != "pending":
        made.feed(delta(), 1, monotonic())
    if phase in ("attached", "paused"):
        made.attach(outlet)
    if phase == "paused":
        outlet.open = False
        made.feed(delta(), 1, monotonic())
        assert attempt.calls == ["pause"]
    made.gone()
    made.gone()
    await asyncio.wait_for(made.decided(), DEADLINE_S)
    await asyncio.wait_for(made.ended(), DEADLINE_S)
    assert told == [StreamState.CANCELLED]
    assert not made.paused
    assert "resume" not in attempt.calls
    made.fail(BOOM)
    assert made.error is None


@pytest.mark.parametrize("end", ["finish", "fail"])
async def test_a_client_that_leaves_after_the_end_changes_nothing(end: str) -> None:
    made, _, _ = flowing()
    told: list[str] = []
    made.on_gone = lambda: told.append("gone")
    if end == "finish":
        made.finish()
    else:
        made.fail(BOOM)
    state = made.state
    made.gone()
    assert (made.state, told) == (state, [])


# Slow readers


async def test_a_slow_reader_pauses_the_upstream_and_resumes_it() -> None:
    metrics = Metrics()
    made, outlet, attempt = flowing(metrics)
    outlet.open = False
    made.feed(delta(), 1, monotonic())
    made.feed(delta(), 1, monotonic())
    assert attempt.calls == ["pause"]
    assert made.paused
    outlet.open = True
    assert outlet.on_resume is not None
    outlet.on_resume()
    outlet.on_resume()
    assert attempt.calls == ["pause", "resume"]
    assert not made.paused
    assert made.paused_s > 0
    assert metrics.value(catalog.PAUSES) == 1
    made.finish()


async def test_a_reader_that_takes_nothing_is_cut() -> None:
    made, outlet, _ = flowing(slow_reader_ms=20)
    told: list[str] = []
    made.on_gone = lambda: told.append("gone")
    outlet.open, outlet.unsent, began = False, 70_000, monotonic()
    made.feed(delta(), 1, began)
    await outlet.news.until(lambda: outlet.aborted)
    assert monotonic() - began >= 19 * MS
    assert made.state is StreamState.FAILED
    assert made.error is not None
    assert made.error.code is Code.SLOW_READER
    assert made.cause == "slow_reader"
    assert told == ["gone"]
    assert made.paused_s >= 19 * MS
    assert DONE not in outlet.text, "a cut answer must not look complete"


async def test_a_reader_that_makes_progress_is_given_more_time() -> None:
    made, outlet, _ = flowing(slow_reader_ms=20)
    outlet.open, outlet.unsent = False, 70_000
    made.feed(delta(), 1, monotonic())
    for unsent in (69_000, 68_000, 1):
        looks = outlet.looks
        outlet.unsent = unsent
        await outlet.news.until(lambda looks=looks: outlet.looks > looks)
        assert made.state is StreamState.COMMITTED
    await outlet.news.until(lambda: outlet.aborted)
    assert made.state is StreamState.FAILED


async def test_a_reader_that_caught_up_is_not_cut_for_an_older_pause() -> None:
    made, outlet, _ = flowing(slow_reader_ms=20)
    outlet.open, outlet.unsent = False, 70_000
    made.feed(delta(), 1, monotonic())
    assert outlet.on_resume is not None
    outlet.on_resume()
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(50 * MS, rung.set)
    await asyncio.wait_for(rung.wait(), DEADLINE_S)
    assert made.state is StreamState.COMMITTED
    began = monotonic()
    made.feed(delta(), 1, began)
    await outlet.news.until(lambda: outlet.aborted)
    assert monotonic() - began >= 19 * MS, "each pause has its own deadline"


async def test_a_client_that_leaves_while_paused_is_not_cut_later() -> None:
    made, outlet, _ = flowing(slow_reader_ms=10)
    outlet.open = False
    made.feed(delta(), 1, monotonic())
    made.gone()
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(30 * MS, rung.set)
    await asyncio.wait_for(rung.wait(), DEADLINE_S)
    assert (made.state, made.error, outlet.aborted) == (StreamState.CANCELLED, None, False)


# Before the headers are out: the client has not read an earlier answer on its connection

BIG = b"data: " + b"x" * 40_000 + b"\n\n"


async def test_what_is_held_for_the_headers_is_bounded() -> None:
    made, outlet, attempt = stream(Metrics()), Outlet(), upstream()
    made.upstream = attempt
    made.feed(BIG, 1, monotonic())
    assert not made.paused
    made.feed(BIG, 1, monotonic())
    assert attempt.calls == ["pause"]
    made.attach(outlet)
    assert attempt.calls == ["pause", "resume"]
    assert outlet.writes == [BIG + BIG]
    assert made.backlog_bytes == 0
    made.finish()


async def test_a_backlog_that_the_reader_does_not_take_keeps_the_upstream_paused() -> None:
    made, outlet, attempt = stream(Metrics(), slow_reader_ms=20), Outlet(), upstream()
    made.upstream = attempt
    outlet.open, outlet.unsent = False, 80_000
    made.feed(BIG, 1, monotonic())
    made.feed(BIG, 1, monotonic())
    made.attach(outlet)
    assert attempt.calls == ["pause"]
    await outlet.news.until(lambda: outlet.aborted)


async def test_a_small_backlog_that_fills_the_outlet_pauses_at_attach() -> None:
    made, outlet, attempt = stream(Metrics()), Outlet(), upstream()
    made.upstream = attempt
    made.feed(delta(), 1, monotonic())
    outlet.open = False
    made.attach(outlet)
    assert attempt.calls == ["pause"]
    made.gone()


async def test_a_reader_cut_before_its_headers_gets_no_half_answer() -> None:
    made, outlet, attempt = stream(Metrics(), slow_reader_ms=10), Outlet(), upstream()
    made.upstream = attempt
    made.feed(BIG, 1, monotonic())
    made.feed(BIG, 1, monotonic())
    await asyncio.wait_for(made.ended(), DEADLINE_S)
    assert made.error is not None
    assert made.error.code is Code.SLOW_READER
    made.attach(outlet)
    assert outlet.aborted
    assert outlet.writes == []


# Figures


async def test_what_is_measured() -> None:
    metrics = Metrics()
    made, _, _ = flowing(metrics)
    chunks = metrics.histogram(catalog.ATTEMPT_PER_CHUNK, "chat", "vllm", "m", "a")
    metrics.derive(catalog.STREAM_GAP, catalog.ATTEMPT_PER_CHUNK, "gen_ai_request_model")
    made.pull_into(chunks)
    first = made.first_s
    made.feed(delta() * 3, 3, first + 0.5)
    made.feed(delta(), 1, first + 0.7)
    assert made.events == 5
    assert made.first_s == first
    assert made.longest_s == pytest.approx(0.5)
    assert metrics.value(catalog.STREAM_TTFT, "chat", "headrace", "m") == 1
    assert metrics.value(catalog.STREAM_GAP, "m") == 2
    made.finish()


@pytest.mark.parametrize("end", ["finish", "fail", "gone", "never attached", "cut"])
async def test_closing_leaves_no_cycle_for_the_collector(end: str) -> None:
    def mine() -> list[Stream]:
        return [thing for thing in gc.get_objects() if type(thing) is Stream and thing.request_id == end]

    async def live() -> None:
        made, outlet, attempt = stream(Metrics(), heartbeat_ms=50, slow_reader_ms=5), Outlet(), upstream()
        made.request_id = end
        made.upstream = attempt
        made.on_gone = made.close
        outlet.on_disconnect = made.gone
        made.feed(delta(), 1, monotonic())
        if end != "never attached":
            made.attach(outlet)
        match end:
            case "finish":
                made.finish()
            case "fail":
                made.fail(BOOM)
            case "cut":
                outlet.open = False
                made.feed(delta(), 1, monotonic())
                await asyncio.wait_for(made.ended(), DEADLINE_S)
            case _:
                made.gone()
        assert len(mine()) == 1
        made.close()

    gc.collect()
    gc.disable()
    try:
        await live()
        assert mine() == []
    finally:
        gc.enable()
