"""One upstream's way from the request to its judgement, through a relay with one candidate."""

from __future__ import annotations

import asyncio
import json
from time import monotonic

import pytest

from edge.protocol.states import StreamState
from edge.streams.contracts import Ending, Outcome
from streamkit.flow.breaker import BreakerState
from streamkit.ops import catalog
from streamkit.wire.backend import Capabilities
from streamkit.wire.errors import Code
from tests.support.timing import MS
from tests.unit.edge.relay.rig import Rig
from tests.unit.edge.scripted import DONE, ERROR, PING, ROLE, USAGE, Upstream, candidate, delta, finish, turning

pytestmark = pytest.mark.anyio
LLAMA_ROLE = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}\n\n'
NO_DONE = Capabilities(sends_done=False)


def failure(text: bytes) -> tuple[str, str]:
    """Return code and message of the error frame that ends `text`; it is followed by one [DONE]."""
    assert text.count(DONE) == 1
    assert text.endswith(DONE)
    frame = text.removesuffix(DONE).rsplit(b"data: ", 1)[1]
    error = json.loads(frame)["error"]
    return error["code"], error["message"]


def tokens(rig: Rig, kind: str) -> float:
    return rig.metrics.histogram(catalog.TOKEN_USAGE, "chat", "vllm", "m", "a", kind).total


# The first event


@pytest.mark.parametrize("role", [ROLE, LLAMA_ROLE])
async def test_a_bare_role_chunk_waits_for_the_first_token(role: bytes) -> None:
    rig = Rig()
    upstream = rig.start()
    upstream.feed(role)
    upstream.feed(b": keep-alive\n\n")
    assert rig.stream.state is StreamState.PENDING
    assert rig.metrics.value(catalog.STREAM_TTFT, "chat", "headrace", "m") == 0
    upstream.feed(delta())
    assert rig.stream.state is StreamState.COMMITTED
    assert rig.metrics.value(catalog.STREAM_TTFT, "chat", "headrace", "m") == 1
    assert rig.metrics.value(catalog.ATTEMPT_FIRST_CHUNK, "chat", "vllm", "m", "a") == 1
    rig.stream.attach(rig.outlet)
    assert rig.outlet.writes == [role + delta()]
    upstream.feed(finish() + DONE)
    upstream.finish()
    await rig.over()
    assert rig.text == role + delta() + finish() + DONE


async def test_with_two_choices_both_role_chunks_wait() -> None:
    rig = Rig(fields=',"n":2')
    upstream = rig.start()
    other = ROLE.replace(b'"index":0', b'"index":1')
    upstream.feed(ROLE + other)
    assert rig.stream.state is StreamState.PENDING
    upstream.feed(delta(index=1))
    rig.stream.attach(rig.outlet)
    upstream.feed(finish(index=0) + delta(index=1) + finish(index=1) + DONE)
    upstream.finish()
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.text == ROLE + other + delta(index=1) + finish() + delta(index=1) + finish(index=1) + DONE


async def test_an_answer_of_nothing_but_its_end_is_an_answer() -> None:
    rig = Rig()
    upstream = rig.begin(ROLE + finish("length") + DONE)
    upstream.finish()
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.text == ROLE + finish("length") + DONE


@pytest.mark.parametrize("early", [b"", ROLE, ROLE + DONE, DONE, USAGE + DONE, b": ping\n\n"])
async def test_a_stream_that_ends_before_its_first_event_is_a_failure(early: bytes) -> None:
    rig = Rig(failures=1)
    upstream = rig.start()
    if early:
        upstream.feed(early)
    assert rig.stream.state is StreamState.PENDING
    upstream.finish()
    assert rig.reply()[0] == 502
    assert b"before the first event" in rig.reply()[1]
    assert rig.breaker() is BreakerState.OPEN
    await rig.over()


async def test_an_engine_of_empty_events_only_is_given_up() -> None:
    rig = Rig()
    upstream = rig.start()
    for _ in range(64 * 1024 // len(ROLE) + 1):
        upstream.feed(ROLE)
    assert rig.reply()[0] == 502
    assert b"only empty events" in rig.reply()[1]
    assert upstream.cancelled
    await rig.over()


async def test_a_refusal_in_disguise_is_a_status() -> None:
    rig = Rig(failures=1)
    upstream = rig.start()
    frame = b'{"error": {"message": "bad schema", "type": "BadRequestError", "param": null, "code": 400}}'
    upstream.feed(b"data: " + frame + b"\n\n" + DONE)
    assert rig.reply() == (400, frame), "the engine's own words, byte for byte"
    assert upstream.cancelled
    await rig.over()
    assert rig.breaker() is BreakerState.CLOSED
    assert rig.attempts("failed") == 1


async def test_an_engines_failure_in_disguise_is_ours_to_tell() -> None:
    rig = Rig(failures=1)
    rig.start().feed(ROLE + ERROR + DONE)
    assert rig.reply()[0] == 502
    assert b"boom" in rig.reply()[1]
    await rig.over()
    assert rig.breaker() is BreakerState.OPEN


async def test_a_stream_request_answered_with_json() -> None:
    rig = Rig()
    rig.start().answer(200, b"{}", b"application/json")
    assert rig.reply()[0] == 502
    assert b"application/json instead of text/event-stream" in rig.reply()[1]
    await rig.over()


# The end


async def test_permit_and_breaker_are_settled_at_the_end_of_the_body() -> None:
    rig = Rig(failures=1)
    upstream = rig.begin(ROLE, delta(), finish(), DONE)
    assert rig.stream.state is StreamState.FINISHED
    assert (rig.in_use, rig.settled) == (1, [])
    rig.leave()
    assert (rig.in_use, rig.settled) == (1, [])
    upstream.finish()
    assert (rig.in_use, rig.settled) == (0, [rig.relay])
    assert rig.attempts("done") == 1
    assert rig.metrics.value(catalog.ATTEMPT_DURATION, "chat", "vllm", "m", "a", "") == 1
    assert rig.breaker() is BreakerState.CLOSED


async def test_a_body_that_breaks_after_done_was_still_whole() -> None:
    rig = Rig(failures=1)
    upstream = rig.begin(delta(), finish(), DONE)
    upstream.break_off()
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.attempts("done") == 1


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "abort"])
async def test_any_finish_reason_of_the_engine_is_one(reason: str) -> None:
    rig = Rig()
    upstream = rig.begin(delta(), finish(reason), DONE)
    upstream.finish()
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.text == delta() + finish(reason) + DONE


async def test_done_without_a_finish_reason_is_a_failure() -> None:
    rig = Rig(failures=1)
    upstream = rig.begin(delta(), DONE)
    upstream.finish()
    await rig.over()
    code, message = failure(rig.text)
    assert code == "stream_broken"
    assert "incomplete" in message
    assert rig.stream.state is StreamState.FAILED
    assert rig.breaker() is BreakerState.OPEN


@pytest.mark.parametrize("said", [delta(), delta() + finish()])
@pytest.mark.parametrize("how", ["end", "break"])
async def test_a_stream_that_ends_without_done_is_a_failure(said: bytes, how: str) -> None:
    rig = Rig(failures=1)
    upstream = rig.begin(said)
    if how == "end":
        upstream.finish()
    else:
        upstream.break_off()
    await rig.over()
    assert rig.text.startswith(said)
    assert failure(rig.text)[0] == "stream_broken"
    assert rig.breaker() is BreakerState.OPEN
    assert rig.attempts("failed") == 1


async def test_an_engine_without_done_is_whole_after_its_finish_reason() -> None:
    rig = Rig([candidate(capabilities=NO_DONE)])
    upstream = rig.begin(delta(), finish())
    assert rig.stream.state is StreamState.COMMITTED
    upstream.finish()
    await rig.over()
    assert rig.stream.state is StreamState.FINISHED
    assert rig.text == delta() + finish() + DONE


@pytest.mark.parametrize("how", ["end", "break"])
async def test_an_engine_without_done_can_be_cut_off_too(how: str) -> None:
    rig = Rig([candidate(capabilities=NO_DONE)])
    upstream = rig.begin(delta(), *([finish()] if how == "break" else []))
    if how == "end":
        upstream.finish()
    else:
        upstream.break_off()
    await rig.over()
    assert rig.stream.state is StreamState.FAILED
    assert failure(rig.text)[0] == "stream_broken"


@pytest.mark.parametrize("after", [b"", DONE])
@pytest.mark.parametrize("how", ["end", "break"])
async def test_the_engines_error_frame_is_forwarded_and_done_follows_once(after: bytes, how: str) -> None:
    rig = Rig(failures=1)
    upstream = rig.begin(delta(), ERROR)
    if after:
        upstream.feed(after)
    if how == "end":
        upstream.finish()
    else:
        upstream.break_off()
    await rig.over()
    assert rig.text == delta() + ERROR + DONE
    assert rig.stream.error is not None
    assert "boom" in rig.stream.error.message
    assert rig.breaker() is BreakerState.OPEN


@pytest.mark.parametrize("then", ["done", "end", "break"])
async def test_a_finish_reason_of_error_is_never_a_success(then: str) -> None:
    rig = Rig(failures=1)
    upstream = rig.begin(delta(), finish("error"))
    if then == "done":
        upstream.feed(DONE)
    if then == "break":
        upstream.break_off()
    else:
        upstream.finish()
    await rig.over()
    assert rig.stream.state is StreamState.FAILED
    assert rig.text.startswith(delta() + finish("error"))
    failure(rig.text)
    assert rig.breaker() is BreakerState.OPEN


async def test_nothing_that_follows_done_reaches_the_client() -> None:
    rig = Rig()
    upstream = rig.begin(delta(), finish(), DONE + delta("late"))
    upstream.feed(delta("later"))
    upstream.feed(ERROR + DONE)
    upstream.finish()
    await rig.over()
    assert rig.text == delta() + finish() + DONE
    assert rig.stream.state is StreamState.FINISHED


# Usage


async def test_forced_usage_is_asked_for_counted_and_stripped() -> None:
    rig = Rig()
    upstream = rig.begin(delta(), finish(), USAGE, DONE)
    assert json.loads(upstream.request.body)["stream_options"] == {"include_usage": True}
    upstream.finish()
    await rig.over()
    assert rig.text == delta() + finish() + DONE
    assert rig.relay.usage is not None
    assert (rig.relay.usage.prompt_tokens, rig.relay.usage.completion_tokens) == (3, 4)
    assert tokens(rig, "input") == 3
    assert tokens(rig, "output") == 4
    assert rig.stream.events == 3


async def test_usage_that_the_client_asked_for_is_its_own() -> None:
    rig = Rig(fields=',"stream_options":{"include_usage":true}')
    upstream = rig.begin(delta(), finish(), USAGE + DONE)
    upstream.finish()
    await rig.over()
    assert rig.text == delta() + finish() + USAGE + DONE
    assert tokens(rig, "output") == 4


@pytest.mark.parametrize(
    ("fields", "capabilities"),
    [
        ("", Capabilities(usage_chunk_only=False)),
        (',"stream_options":{"continuous_usage_stats":true}', Capabilities()),
    ],
)
async def test_usage_is_not_forced_where_more_than_a_last_chunk_would_change(
    fields: str, capabilities: Capabilities
) -> None:
    rig = Rig([candidate(capabilities=capabilities)], fields=fields)
    upstream = rig.begin(delta(), finish(), USAGE, DONE)
    assert b"include_usage" not in upstream.request.body
    upstream.finish()
    await rig.over()
    assert USAGE in rig.text


async def test_an_attempt_without_usage_counts_no_tokens() -> None:
    rig = Rig()
    upstream = rig.begin(delta(), finish(), DONE)
    upstream.finish()
    await rig.over()
    assert rig.relay.usage is None
    assert tokens(rig, "output") == 0


# What is asked of the source


async def test_the_request_of_one_choice_and_of_several() -> None:
    rig = Rig([candidate(model="engine-m")])
    request = rig.start().request
    assert (request.path, request.stream, request.one_choice) == (b"/v1/chat/completions", True, True)
    assert json.loads(request.body)["model"] == "engine-m"
    assert request.headers == ((b"x-request-id", b"r1"),)
    rig.leave()
    await rig.over()
    several = Rig(fields=',"n":2')
    assert not several.start().request.one_choice
    several.leave()
    await several.over()


async def test_a_simulator_alone_is_told_how_to_behave() -> None:
    for simulated, extra in ((False, ()), (True, ((b"x-sim", b"tokens=3"), (b"x-sim-attempt", b"1")))):
        rig = Rig([candidate(capabilities=Capabilities(simulated=simulated))], sim=b"tokens=3")
        assert rig.start().request.headers[1:] == extra
        rig.leave()
        await rig.over()


# Whole answers


async def test_a_whole_answer_is_passed_on_byte_for_byte() -> None:
    rig = Rig(streaming=False)
    upstream = rig.start()
    assert not upstream.request.stream
    body = b'{ "choices" : [], "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11} }'
    upstream.answer(200, body, b"application/json; charset=utf-8")
    await rig.over()
    assert rig.stream.reply is not None
    assert (rig.reply(), rig.stream.reply.content_type) == ((200, body), b"application/json; charset=utf-8")
    assert rig.stream.state is StreamState.FINISHED
    assert tokens(rig, "output") == 6
    assert rig.attempts("done") == 1


async def test_a_whole_answer_cut_short_is_a_failure() -> None:
    rig = Rig(streaming=False, failures=1)
    rig.start().break_off()
    assert rig.reply()[0] == 502
    assert rig.breaker() is BreakerState.OPEN
    await rig.over()


async def test_a_whole_answer_that_does_not_fit_our_memory_blames_nobody() -> None:
    rig = Rig([candidate("a"), candidate("b")], streaming=False, failures=1)
    rig.start().break_off(Code.OUT_OF_MEMORY)
    assert rig.reply()[0] == 503
    assert rig.breaker() is BreakerState.CLOSED
    assert rig.sources["b"].opened == []
    await rig.over()


async def test_a_whole_answer_has_its_own_deadline() -> None:
    rig = Rig(streaming=False, response_ms=20, first_event_ms=1)
    began = monotonic()
    upstream = rig.start()
    await asyncio.wait_for(rig.stream.ended(), 10)
    assert monotonic() - began >= 19 * MS
    assert rig.reply()[0] == 504
    assert upstream.cancelled
    await rig.over()


# Deadlines


async def test_no_first_event_in_time() -> None:
    rig = Rig(first_event_ms=20, failures=1)
    upstream = rig.start()
    upstream.feed(ROLE)
    await asyncio.wait_for(rig.stream.ended(), 10)
    assert rig.reply()[0] == 504
    assert b"no event within" in rig.reply()[1]
    assert upstream.cancelled
    await rig.over()
    assert rig.breaker() is BreakerState.OPEN


async def test_comments_and_role_chunks_do_not_put_the_first_event_off() -> None:
    rig = Rig(first_event_ms=40)
    began, upstream, loop = monotonic(), rig.start(), asyncio.get_running_loop()

    def ping() -> None:
        if not rig.stream.state.ended:
            upstream.feed(b": keep-alive\n\n")
            upstream.feed(ROLE)
            loop.call_later(5 * MS, ping)

    ping()
    await asyncio.wait_for(rig.stream.ended(), 10)
    assert monotonic() - began >= 39 * MS
    assert rig.reply()[0] == 504
    await rig.over()


async def test_a_silence_in_the_middle_is_a_stall() -> None:
    rig = Rig(idle_ms=20, failures=1)
    upstream = rig.begin(delta())
    await asyncio.wait_for(rig.stream.ended(), 10)
    assert failure(rig.text)[0] == "stream_stalled"
    assert upstream.cancelled
    await rig.over()
    assert rig.breaker() is BreakerState.OPEN
    assert rig.attempts("failed") == 1


async def test_a_silence_that_a_slow_reader_made_is_no_stall() -> None:
    rig = Rig(idle_ms=10)
    upstream = rig.begin(delta())
    rig.outlet.open = False
    upstream.feed(delta())
    assert upstream.paused
    waited = asyncio.Event()
    asyncio.get_running_loop().call_later(60 * MS, waited.set)
    await asyncio.wait_for(waited.wait(), 10)
    assert rig.stream.state is StreamState.COMMITTED
    assert rig.outlet.on_resume is not None
    resumed = monotonic()
    rig.outlet.on_resume()
    assert not upstream.paused
    await asyncio.wait_for(rig.stream.ended(), 10)
    assert failure(rig.text)[0] == "stream_stalled"
    assert monotonic() - resumed < 5
    await rig.over()


async def test_an_upstream_that_never_closes_after_done_is_closed_by_us() -> None:
    rig = Rig(idle_ms=15)
    upstream = rig.begin(delta(), finish(), DONE)
    rig.leave()
    assert rig.in_use == 1
    await rig.news.until(lambda: rig.settled)
    assert upstream.cancelled
    assert rig.in_use == 0


# Sources that deliver before `open` returns


def at_once(rig: Rig, *, end: bool = True) -> None:
    def play(upstream: Upstream) -> None:
        upstream.feed(ROLE + delta())
        if end:
            upstream.feed(finish() + DONE)
            upstream.finish()

    rig.sources["a"].at_open = play


async def test_a_source_may_answer_before_it_returns() -> None:
    rig = Rig()
    at_once(rig)
    rig.start()
    rig.stream.attach(rig.outlet)
    await rig.over()
    assert rig.text == ROLE + delta() + finish() + DONE


async def test_a_source_that_flows_before_it_returns_can_be_paused() -> None:
    rig = Rig()
    at_once(rig, end=False)
    upstream = rig.begin()
    rig.outlet.open = False
    upstream.feed(delta())
    assert upstream.paused
    rig.leave()
    await turning(lambda: upstream.over)
    await rig.over()


async def test_a_source_that_is_refused_before_it_returns_is_cancelled() -> None:
    rig = Rig()
    rig.sources["a"].at_open = lambda upstream: upstream.feed(ERROR)
    upstream = rig.start()
    assert upstream.cancelled
    assert rig.reply()[0] == 502
    await rig.over()


async def test_a_client_gone_while_the_source_opens_cancels_it() -> None:
    rig = Rig()
    rig.sources["a"].at_open = lambda _: rig.stream.gone()
    upstream = rig.start()
    assert upstream.cancelled
    await rig.over()
    assert rig.attempts("cancelled") == 1


async def test_heartbeats_do_not_stand_between_halves_of_a_write() -> None:
    rig = Rig(heartbeat_ms=10)
    upstream = rig.begin(delta())
    half = delta("b")
    upstream.feed(half[:20])
    await rig.outlet.news.until(lambda: PING in rig.outlet.writes)
    upstream.feed(half[20:])
    assert rig.outlet.writes[0] == delta()
    assert rig.outlet.writes[-1] == half
    assert set(rig.outlet.writes[1:-1]) == {PING}
    upstream.end(Outcome(ending=Ending.CANCELLED))
    rig.leave()
    await rig.over()
