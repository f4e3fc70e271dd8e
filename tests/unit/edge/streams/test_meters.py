from __future__ import annotations

import pytest

from edge.streams.meters import StreamMetersCache
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics


def test_the_series_of_a_model_are_made_once() -> None:
    cache = StreamMetersCache(Metrics())
    assert cache.of("chat", "m") is cache.of("chat", "m")
    assert cache.of("chat", "m") is not cache.of("text_completion", "m")


def test_the_end_of_a_request_is_counted_by_how() -> None:
    metrics = Metrics()
    meters = StreamMetersCache(metrics).of("chat", "m")
    meters.ended("finished", "", 0.5)
    meters.ended("failed", "slow_reader", 2.0)
    assert metrics.value(catalog.STREAMS, "chat", "m", "finished", "") == 1
    assert metrics.value(catalog.STREAMS, "chat", "m", "failed", "slow_reader") == 1
    assert metrics.value(catalog.STREAM_DURATION, "chat", "headrace", "m", "slow_reader") == 1


def test_operations_share_what_is_counted_by_model_only() -> None:
    metrics = Metrics()
    cache = StreamMetersCache(metrics)
    assert cache.of("chat", "m").events is cache.of("text_completion", "m").events
    assert cache.of("chat", "m").heartbeats is cache.of("chat", "other").heartbeats


def test_models_that_are_renamed_for_ever_fill_neither_the_page_nor_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.streams.meters.MAX_SERIES", 3)
    metrics = Metrics()
    cache = StreamMetersCache(metrics)
    for number in range(10):
        cache.of("chat", f"m{number}").events.value += 1
    assert metrics.value(catalog.STREAM_EVENTS, "m2") == 1
    assert metrics.value(catalog.STREAM_EVENTS, "other") == 7
    assert len(cache._made) <= 4
