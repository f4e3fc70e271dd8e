"""A seam between two engines, seen from the relay: who is asked, what is held, and that it all comes back."""

from __future__ import annotations

import json

import pytest

from edge.protocol.states import StreamState
from streamkit.flow.breaker import BreakerState
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from streamkit.wire.errors import Code
from tests.unit.edge.relay.rig import Rig, two
from tests.unit.edge.scripted import DONE, ERROR, ROLE, USAGE, candidate, delta, finish

pytestmark = pytest.mark.anyio


def outcomes(rig: Rig) -> dict[str, float]:
    names = ("joined", "failed", "unfit")
    return {name: count for name in names if (count := rig.metrics.value(catalog.CONTINUATIONS, name))}


def nothing_kept(rig: Rig) -> bool:
    return rig.memory.used_bytes == 0


async def test_another_engine_goes_on_with_the_text_so_far() -> None:
    rig = Rig(two(continues=True), fields=',"max_tokens":10')
    rig.begin(ROLE + delta("one") + delta("two")).break_off()
    second = rig.sources["b"].last
    asked = json.loads(second.request.body)
    assert asked["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "onetwo"}]
    assert asked["continue_final_message"] is True
    assert asked["add_generation_prompt"] is False
    assert asked["max_tokens"] == 8
    assert dict(second.request.headers)[b"x-request-id"] == b"r1-2", "its own id for each attempt"
    assert rig.stream.state is StreamState.COMMITTED
    second.feed(ROLE + delta("three") + finish() + USAGE + DONE)
    second.finish()
    await rig.over()
    assert rig.text == ROLE + delta("one") + delta("two") + delta("three") + finish() + DONE
    assert rig.attempts("failed") == rig.attempts("done", "b") == 1
    assert rig.relay.usage is not None
    assert (rig.relay.usage.prompt_tokens, rig.relay.usage.completion_tokens) == (1, 6), "two were the first half's"
    assert outcomes(rig) == {"joined": 1}
    assert rig.metrics.value(catalog.RETRIES, "continuation") == 1
    assert nothing_kept(rig)


async def test_the_same_backend_may_go_on_and_needs_its_own_permit_for_it() -> None:
    rig = Rig([candidate("a", max_inflight=1, continues=True)])
    rig.begin(ROLE + delta("one")).break_off()
    assert rig.in_use == 1
    assert len(rig.sources["a"].opened) == 2
    rig.sources["a"].last.feed(delta("two") + finish() + DONE)
    rig.sources["a"].last.finish()
    await rig.over()
    assert rig.text == ROLE + delta("one") + delta("two") + finish() + DONE


async def test_an_error_frame_in_the_middle_is_not_sent_when_somebody_goes_on() -> None:
    rig = Rig(two(continues=True))
    first = rig.begin(ROLE + delta("one") + ERROR)
    first.feed(DONE)
    assert rig.sources["b"].opened
    first.finish()
    second = rig.sources["b"].last
    second.feed(delta("two") + finish() + DONE)
    second.finish()
    await rig.over()
    assert b"error" not in rig.text
    assert rig.text.count(DONE) == 1


async def test_without_anybody_the_client_gets_the_engines_own_words() -> None:
    rig = Rig([candidate("a", max_inflight=1, continues=True)], budget=RetryBudget(ratio=0, floor_per_s=0))
    first = rig.begin(ROLE + delta("one") + ERROR + DONE)
    assert rig.text == ROLE + delta("one") + ERROR + DONE
    first.finish()
    await rig.over()
    assert outcomes(rig) == {"failed": 1}
    assert nothing_kept(rig)


async def test_one_that_refuses_is_passed_over_and_the_first_failure_is_told_in_the_end() -> None:
    rig = Rig([candidate(name, continues=True) for name in "abc"], max_attempts=4)
    rig.begin(ROLE + delta("one")).break_off()
    rig.sources["b"].last.answer(400, b'{"error":{"message":"what is a prefill?"}}')
    rig.sources["c"].last.answer(503, b"{}")
    again = rig.sources["a"].last
    assert len(rig.sources["a"].opened) == 2, "the one that failed is asked last"
    again.break_off()
    await rig.over()
    assert rig.stream.error is not None
    assert rig.stream.error.code is Code.STREAM_BROKEN
    assert rig.text.count(DONE) == 1
    assert outcomes(rig) == {"failed": 1}


async def test_only_candidates_of_the_same_model_that_may_are_asked() -> None:
    rig = Rig([candidate("a", continues=True), candidate("b"), candidate("c", model="other", continues=True)])
    rig.begin(ROLE + delta("one")).break_off()
    assert not rig.sources["b"].opened
    assert not rig.sources["c"].opened
    assert len(rig.sources["a"].opened) == 2
    rig.leave()
    await rig.over()
    assert nothing_kept(rig)


@pytest.mark.parametrize(
    "events",
    [
        # Tools came though nobody asked; reasoning; a complete text; nothing but the role.
        ROLE + b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]},"finish_reason":null}]}\n\n',
        ROLE + b'data: {"choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}\n\n',
        ROLE + delta("one") + finish(),
    ],
)
async def test_what_is_no_plain_half_is_left_alone(events: bytes) -> None:
    rig = Rig(two(continues=True))
    rig.begin(events).break_off()
    assert not rig.sources["b"].opened
    await rig.over()
    assert rig.stream.state is StreamState.FAILED
    assert rig.text.endswith(DONE)


async def test_off_means_that_nothing_is_remembered() -> None:
    rig = Rig(two())
    rig.begin(ROLE + delta("one"))
    assert rig.relay._mend is None
    assert nothing_kept(rig)
    rig.sources["a"].last.break_off()
    assert not rig.sources["b"].opened
    await rig.over()


async def test_a_client_that_leaves_at_the_seam_stops_the_second_engine() -> None:
    rig = Rig(two(continues=True))
    rig.begin(ROLE + delta("one")).break_off()
    second = rig.sources["b"].last
    rig.stream.gone()
    assert second.cancelled
    await rig.over()
    assert nothing_kept(rig)


async def test_a_slow_reader_pauses_the_second_engine_from_its_first_event() -> None:
    rig = Rig(two(continues=True))
    first = rig.begin(ROLE + delta("one"))
    rig.outlet.open = False
    first.feed(delta("two"))
    assert rig.stream.paused
    first.break_off()
    second = rig.sources["b"].last
    second.feed(ROLE + delta("three"))
    assert second.paused
    rig.outlet.open = True
    assert rig.outlet.on_resume is not None
    rig.outlet.on_resume()
    assert not second.paused
    second.feed(finish() + DONE)
    second.finish()
    await rig.over()


async def test_a_stall_is_mended_too_and_counts_against_the_backend() -> None:
    rig = Rig(two(continues=True), idle_ms=10, failures=1)
    first = rig.begin(ROLE + delta("one"))
    await rig.sources["b"].news.until(lambda: rig.sources["b"].opened)
    assert first.cancelled
    rig.sources["b"].last.feed(delta("two") + finish() + DONE)
    rig.sources["b"].last.finish()
    await rig.over()
    assert rig.text == ROLE + delta("one") + delta("two") + finish() + DONE
    assert rig.breaker() is BreakerState.OPEN


async def test_memory_is_charged_and_without_it_nothing_is_mended() -> None:
    rig = Rig(two(continues=True))
    rig.begin(ROLE + delta("x" * 1000))
    assert rig.memory.accounts["continuation"] == 64 * 1024
    rig.sources["a"].last.feed(finish() + DONE)
    rig.sources["a"].last.finish()
    await rig.over()
    assert nothing_kept(rig)

    rig = Rig(two(continues=True))
    rig.memory.limit_bytes = 0
    rig.begin(ROLE + delta("one")).break_off()
    assert not rig.sources["b"].opened
    await rig.over()
    assert outcomes(rig) == {"unfit": 1}
