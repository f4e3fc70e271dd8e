"""What is made of a stream's reads; the reads themselves go through `Stream.feed`, which counts in place."""

from __future__ import annotations

import asyncio
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.streams.meters import StreamMetersCache
from edge.streams.stream import Stream
from streamkit.ops import catalog
from streamkit.ops.metric import GAP
from streamkit.ops.metrics import Histogram, Metrics
from tests.unit.edge.scripted import delta, stream


def chunks(metrics: Metrics, backend: str) -> Histogram:
    return metrics.histogram(catalog.ATTEMPT_PER_CHUNK, "chat", "vllm", "m", backend)


def measured() -> Metrics:
    metrics = Metrics()
    metrics.derive(catalog.STREAM_GAP, catalog.ATTEMPT_PER_CHUNK, "gen_ai_request_model")
    return metrics


def played(times: list[float], metrics: Metrics) -> Stream:
    made = stream(metrics)
    made.pull_into(chunks(metrics, "a"))
    for now in times:
        made.feed(delta(), 1, now)
    return made


def end(made: Stream, metrics: Metrics) -> None:
    made.settle(StreamMetersCache(metrics).of("chat", "m"))
    made.finish()
    made.close()


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 20.0), min_size=2, max_size=50))
def test_gaps_are_counted_at_once_and_all_else_is_settled_at_the_end(gaps: list[float]) -> None:
    async def scenario() -> None:
        times = [100.0]
        for gap in gaps:
            times.append(times[-1] + gap)
        metrics = measured()
        made = played(times, metrics)
        assert metrics.value(catalog.STREAM_GAP, "m") == len(gaps)
        assert metrics.value(catalog.STREAM_LONGEST_GAP, "m") == 0
        end(made, metrics)
        assert chunks(metrics, "a").total == pytest.approx(math.fsum(gaps), abs=1e-9)
        longest = metrics.histogram(catalog.STREAM_LONGEST_GAP, "m")
        jitter = metrics.histogram(catalog.STREAM_JITTER, "m")
        assert longest.total == pytest.approx(max(gaps), abs=1e-9)
        assert jitter.total == pytest.approx(statistics.pstdev(gaps), abs=1e-5)
        assert sum(jitter.counts) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("times", "longest", "jitter"), [([], 0, 0), ([1.0], 1, 0), ([1.0, 2], 1, 0), ([1.0, 2, 3], 1, 1)]
)
def test_a_stream_of_few_events_has_no_jitter(times: list[float], longest: int, jitter: int) -> None:
    async def scenario() -> None:
        metrics = measured()
        made = played(times, metrics)
        assert (made.jitter_s is not None) is bool(jitter)
        end(made, metrics)
        assert metrics.value(catalog.STREAM_LONGEST_GAP, "m") == longest
        assert metrics.value(catalog.STREAM_JITTER, "m") == jitter

    asyncio.run(scenario())


def test_chunks_belong_to_the_attempt_that_brought_them_and_gaps_to_the_model() -> None:
    async def scenario() -> None:
        metrics = measured()
        made = played([10.0, 10.5], metrics)
        made.pull_into(chunks(metrics, "b"))
        made.feed(delta(), 1, 11.5)
        made.feed(delta(), 1, 13.5)
        end(made, metrics)
        first, second = chunks(metrics, "a"), chunks(metrics, "b")
        assert (sum(first.counts), first.total) == (1, 0.5)
        assert (sum(second.counts), second.total) == (2, 3.0)
        assert metrics.value(catalog.STREAM_GAP, "m") == 3
        text = metrics.exposition()[0].decode()
        assert 'headrace_stream_gap_seconds_sum{model="m"} 3.5\n' in text
        assert 'headrace_stream_gap_seconds_bucket{le="0.5",model="m"} 1.0\n' in text

    asyncio.run(scenario())


def test_both_metrics_have_the_buckets_that_the_hot_path_looks_into() -> None:
    assert catalog.STREAM_GAP.buckets is catalog.ATTEMPT_PER_CHUNK.buckets is GAP
