from __future__ import annotations

import pytest

from streamkit.wire.ratelimit import duration, rate_headers


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (8_640, "8.64s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_600_250, "1h0m0.25s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(milliseconds, text):
    assert duration(milliseconds) == text


def test_the_three_headers_of_a_rate():
    assert rate_headers("tokens", limit=600, remaining=7, reset_ms=61_000) == [
        (b"x-ratelimit-limit-tokens", b"600"),
        (b"x-ratelimit-remaining-tokens", b"7"),
        (b"x-ratelimit-reset-tokens", b"1m1s"),
    ]
