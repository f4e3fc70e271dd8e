"""Engines, reader and client act in any order, with retries, hedges and continuations: whatever happens, everything
is given back and nothing looks whole that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.states import StreamState
from streamkit.flow.retry_budget import RetryBudget
from streamkit.wire.backend import Capabilities
from streamkit.wire.errors import Code
from tests.unit.edge.relay.rig import Rig
from tests.unit.edge.scripted import DONE, ERROR, PING, ROLE, USAGE, Upstream, candidate, delta, finish

Act = tuple[str, int]
FEEDS = {
    "role": ROLE,
    "delta": delta(),
    "two": delta("x") + delta("y"),
    "finish": finish(),
    "finish error": finish("error"),
    "usage": USAGE,
    "done": DONE,
    "error": ERROR,
    "finish done": finish() + DONE,
    "ping": b": keep-alive\n\n",
}


def end_in_half_an_event(upstream: Upstream) -> None:
    upstream.feed(delta()[:17])
    upstream.finish()


ENDS: dict[str, Callable[[Upstream], None]] = {
    "end": Upstream.finish,
    "half": end_in_half_an_event,
    "break": Upstream.break_off,
    "stale": lambda upstream: upstream.break_off(stale=True),
    "memory": lambda upstream: upstream.break_off(Code.OUT_OF_MEMORY),
    "400": lambda upstream: upstream.answer(400, b'{"error":{"message":"no"}}'),
    "404": lambda upstream: upstream.answer(404, b"nothing here"),
    "503": lambda upstream: upstream.answer(503, b'{"error":{"message":"busy"}}'),
    "200": lambda upstream: upstream.answer(200, b"{}"),
}
CLIENT = ["attach", "slow", "quick", "gone", "turn", "stop writing"]
acts = st.lists(
    st.tuples(st.sampled_from([*FEEDS, *FEEDS, *ENDS, *CLIENT]), st.integers(0, 3)), min_size=1, max_size=25
)


def act(rig: Rig, opened: list[Upstream], what: str, which: int) -> None:
    if what in FEEDS or what in ENDS:
        if opened:
            upstream = opened[which % len(opened)]
            # A whole answer has no events, and ends as an answer or not at all.
            if what in FEEDS and upstream.request.stream:
                upstream.feed(FEEDS[what])
            elif what in ENDS and (upstream.request.stream or what not in ("end", "half")):
                ENDS[what](upstream)
    elif what == "attach":
        if rig.stream.committed and not rig.outlet.on_resume and not rig.outlet.writes:
            rig.stream.attach(rig.outlet)
    elif what == "slow":
        rig.outlet.open = False
    elif what == "quick":
        rig.outlet.open = True
        if rig.outlet.on_resume is not None:
            rig.outlet.on_resume()
    elif what == "gone":
        rig.stream.gone()


def judge(rig: Rig) -> None:
    """What the client got, by the laws."""
    text = rig.text
    state = rig.stream.state
    assert text.count(b"[DONE]") <= 1
    assert b"[DONE]" not in text or text.endswith(DONE)
    assert USAGE not in text, "usage was forced by us"
    *blocks, rest = text.split(b"\n\n")
    assert rest == b""
    assert all(block.startswith(b"data: ") or block == PING.strip() for block in blocks), "whole events, no comments"
    if state is StreamState.FINISHED and rig.stream.streaming:
        assert finish() in text
        assert text.endswith(DONE)
        assert ERROR not in text
    if state is StreamState.FAILED and rig.stream.committed and rig.outlet.writes:
        assert b'"error"' in text
        assert text.endswith(DONE)
    if rig.stream.reply is not None:
        assert not rig.stream.committed, "a status or a stream, never both"
        assert text == b""


@pytest.mark.anyio
@settings(max_examples=200)
@given(
    script=acts,
    streaming=st.sampled_from([True, True, True, False]),
    sends_done=st.booleans(),
    winds_down=st.booleans(),
    budget=st.booleans(),
    continues=st.booleans(),
    hedges=st.booleans(),
)
async def test_everything_is_given_back_and_only_whole_answers_look_whole(
    script: list[Act],
    streaming: bool,
    sends_done: bool,
    winds_down: bool,
    budget: bool,
    continues: bool,
    hedges: bool,
) -> None:
    capabilities = Capabilities(sends_done=sends_done)
    rig = Rig(
        [candidate(name, capabilities=capabilities, max_inflight=1, continues=continues) for name in "abc"],
        streaming=streaming,
        hedge_after_ms=0 if hedges else None,
        budget=RetryBudget() if budget else RetryBudget(ratio=0, floor_per_s=0),
    )
    for source in rig.sources.values():
        source.ends_on_cancel = not winds_down
    rig.relay.start()

    def opened() -> list[Upstream]:
        return [upstream for source in rig.sources.values() for upstream in source.opened]

    for what, which in script:
        act(rig, opened(), what, which)
        alive = [upstream for upstream in opened() if not upstream.over]
        assert rig.in_use == len(alive), "a slot is held exactly until its upstream ends"
        if rig.stream.paused:
            assert not rig.stream.state.ended
            assert rig.stream.upstream is None or rig.stream.upstream.calls[-1:] == ["pause"]  # type: ignore[attr-defined]
        if what == "turn":
            await asyncio.sleep(0)
    if rig.stream.committed and not rig.outlet.writes:
        rig.stream.attach(rig.outlet)
    judge(rig)
    if rig.stream.state is StreamState.CANCELLED:
        graced = [upstream for upstream in opened() if not upstream.over and not upstream.cancelled]
        ended = finish() in rig.text or finish("error") in rig.text
        assert not graced or ended or not rig.outlet.writes, "the grace is for what follows a finish_reason"
    rig.stream.gone()
    for upstream in opened():
        upstream.break_off()
    await rig.over()
    assert all(upstream.over for upstream in opened())
    assert rig.memory.used_bytes == 0
    assert len(opened()) == rig.relay.attempts <= 4, "three, and one that a stale connection made free"
    judge(rig)
