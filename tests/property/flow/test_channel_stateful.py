"""Channels against a model, for every policy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.flow.channel import BrokenResourceError, Channel, EndOfStream, WouldBlock
from streamkit.flow.policy import Disconnect, DropOldest, Latest, Pause, Policy

LIMIT_BYTES, LIMIT_ITEMS = 20, 5
STEPS = st.lists(st.one_of(st.integers(0, 25), st.just("get")), max_size=60)


def kept(policy: type[Policy], model: list[tuple[int, int]], size: int) -> list[tuple[int, int]] | None:
    """Return what waits after `size` came and the policy made room; None = it does not fit."""

    def fits(items: list[tuple[int, int]]) -> bool:
        return sum(s for _, s in items) + size <= LIMIT_BYTES and len(items) < LIMIT_ITEMS

    rest = [] if policy is Latest else model[:]
    if policy is DropOldest:
        while rest and not fits(rest):
            rest.pop(0)
    return rest if fits(rest) else None


@pytest.mark.parametrize("policy", [Pause, DropOldest, Latest, Disconnect])
@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_a_channel_is_its_model(policy, steps):
    calls: list[str] = []
    made = (
        Pause(10, 4, on_pause=lambda: calls.append("pause"), on_resume=lambda: calls.append("resume"))
        if policy is Pause
        else policy()
    )
    channel: Channel[int] = Channel(LIMIT_BYTES, made, limit_items=LIMIT_ITEMS)
    model: list[tuple[int, int]] = []
    for number, step in enumerate(steps):
        if step == "get":
            if model:
                assert channel.get_nowait() == model.pop(0)[0]
            else:
                with pytest.raises(WouldBlock):
                    channel.get_nowait()
            continue
        after = kept(policy, model, step)
        if after is None and policy is Disconnect:
            with pytest.raises(BrokenResourceError):
                channel.put_nowait(number, step)
            assert channel.statistics().size_bytes == 0
            return
        if after is None:
            with pytest.raises(WouldBlock):
                channel.put_nowait(number, step)
            model = model if policy is Pause else []
        else:
            channel.put_nowait(number, step)
            model = [*after, (number, step)]
        statistics = channel.statistics()
        assert (statistics.items, statistics.size_bytes) == (len(model), sum(size for _, size in model))
        assert statistics.size_bytes <= LIMIT_BYTES
        assert calls == ["pause", "resume"] * (len(calls) // 2) + ["pause"] * (len(calls) % 2)
    channel.close()
    assert [channel.get_nowait() for _ in range(len(model))] == [number for number, _ in model]
    with pytest.raises(EndOfStream):
        channel.get_nowait()
    assert len(calls) % 2 == 0, "an empty channel never leaves its source paused"
