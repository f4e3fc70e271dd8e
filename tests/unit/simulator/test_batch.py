from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simulator.batch import Batch, Sequence, Step
from simulator.metrics import Metrics
from simulator.prefixes import PrefixCache
from simulator.settings import SimulatorSettings
from tests.unit.simulator.raw import until


class Stream:
    """A sequence of so many tokens that keeps the times of them."""

    def __init__(self, batch: Batch, tokens: int, *, prompt_tokens: int = 4) -> None:
        self.times: list[float] = []
        self._tokens = tokens
        self.sequence = Sequence(self._on_token, prompt_tokens=prompt_tokens, prompt_key="x" * prompt_tokens)
        batch.submit(self.sequence)

    def _on_token(self, now: float) -> Step:
        self.times.append(now)
        return Step.DONE if len(self.times) == self._tokens else Step.GO_ON

    @property
    def done(self) -> bool:
        return len(self.times) == self._tokens


def make(**settings: Any) -> tuple[Batch, Metrics]:
    given = SimulatorSettings(**{"ttft_ms": 2, "itl_ms": 2, "itl_growth": 0, **settings})
    metrics = Metrics(given)
    return Batch(given, metrics, asyncio.get_running_loop()), metrics


@pytest.mark.anyio
async def test_no_more_run_than_the_batch_holds_and_the_rest_wait_their_turn() -> None:
    batch, _ = make(max_num_seqs=2)
    streams = [Stream(batch, 3) for _ in range(5)]
    assert (len(batch.running), len(batch.waiting)) == (2, 3)
    await until(lambda: all(stream.done for stream in streams), "all five")
    assert (len(batch.running), len(batch.waiting)) == (0, 0)
    assert batch.kv_usage == 0
    batch.close()


@pytest.mark.anyio
async def test_an_abort_frees_a_running_and_a_waiting_place() -> None:
    batch, _ = make(max_num_seqs=1, ttft_ms=10_000)
    first, second, third = (Stream(batch, 1).sequence for _ in range(3))
    batch.abort(second)
    assert (len(batch.running), len(batch.waiting)) == (1, 1)
    batch.abort(first)
    assert list(batch.running) == [third]
    batch.abort(third)
    batch.abort(third)
    assert batch.kv_usage == 0
    batch.close()


@pytest.mark.anyio
async def test_a_full_cache_sends_the_newest_back_to_the_queue_and_all_finish() -> None:
    # Twelve blocks of four tokens; each stream grows to 4 + 24 tokens, seven blocks.
    batch, metrics = make(kv_blocks=12, block_tokens=4, max_model_len=48)
    streams = [Stream(batch, 24) for _ in range(3)]
    await until(lambda: all(stream.done for stream in streams), "all three")
    assert metrics.preemptions > 0
    assert streams[0].sequence.preemptions == 0
    assert batch.kv_usage == 0
    batch.close()


@pytest.mark.anyio
async def test_steps_emit_for_every_stream_at_the_same_moment() -> None:
    batch, _ = make(pace="step", itl_ms=5, ttft_ms=0)
    streams = [Stream(batch, 4) for _ in range(20)]
    await until(lambda: all(stream.done for stream in streams), "all")
    assert len({tuple(stream.times) for stream in streams}) == 1
    batch.close()


@pytest.mark.anyio
async def test_staggered_streams_keep_their_own_places_in_time() -> None:
    batch, _ = make(itl_ms=20)
    streams = [Stream(batch, 2) for _ in range(20)]
    await until(lambda: all(stream.done for stream in streams), "all")
    assert len({stream.times[0] for stream in streams}) > 10
    batch.close()


@pytest.mark.anyio
async def test_a_bigger_batch_is_slower_by_itl_growth() -> None:
    async def pause(others: int) -> float:
        batch, _ = make(itl_ms=4, itl_growth=0.5, pace="step", ttft_ms=0)
        streams = [Stream(batch, 6) for _ in range(others + 1)]
        await until(lambda: all(stream.done for stream in streams), "all")
        batch.close()
        return streams[0].times[-1] - streams[0].times[0]

    assert await pause(8) > 3 * await pause(0)


@pytest.mark.anyio
async def test_a_sleeping_batch_queues_and_wakes() -> None:
    batch, _ = make()
    batch.set_asleep(asleep=True)
    stream = Stream(batch, 2)
    assert (len(batch.running), len(batch.waiting)) == (0, 1)
    batch.set_asleep(asleep=False)
    await until(lambda: stream.done, "it runs")
    batch.close()


@pytest.mark.anyio
async def test_queue_limits_count_running_and_waiting_and_n_counts_n() -> None:
    batch, _ = make(max_num_queued_reqs=3, max_num_seqs=1, max_num_queued_tokens=10, ttft_ms=10_000)
    assert batch.overflow(4, 1) == "max_num_queued_reqs"
    assert batch.overflow(1, 10_000) is None  # nothing waits yet
    Stream(batch, 1)
    assert batch.overflow(3, 1) == "max_num_queued_reqs"
    Stream(batch, 1, prompt_tokens=6)
    assert batch.overflow(1, 4) is None
    assert batch.overflow(1, 5) == "max_num_queued_tokens"
    batch.close()


def test_only_a_common_beginning_hits_and_the_last_token_never_does() -> None:
    cache = PrefixCache(100, 4)
    assert cache.hits("a" * 16, 16) == 0
    assert cache.hits("a" * 16, 16) == 12
    assert cache.hits("a" * 8 + "b" * 8, 16) == 8
    assert cache.hits("b" + "a" * 15, 16) == 0
    cache.clear()
    assert cache.hits("a" * 16, 16) == 0


def test_the_prefix_cache_is_bounded() -> None:
    cache = PrefixCache(3, 4)
    cache.hits("abcdefghijklmnop" * 4, 64)
    assert cache.hits("abcdefghijklmnop" * 4, 64) == 0


def test_a_cache_too_small_for_one_request_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold one request of max_model_len = 4096"):
        SimulatorSettings(kv_blocks=10, block_tokens=16, max_model_len=4096)
