"""One stream's life as a picture, and usage as a table: what a person sees."""

from __future__ import annotations

import argparse
import io
import re
from datetime import timedelta

import pytest

from launch import durations
from launch.durations import since
from launch.event_line import brief, line
from launch.event_log import Filter
from launch.screen import Screen
from launch.trace import render
from launch.usage import table
from observe.usage import Row
from streamkit.wire.telemetry import Event

SCREEN = Screen(io.StringIO())
TIMELINE = {
    "routed_ms": 2.0,
    "queued": [3.0, 120.0],
    "first_event_ms": 600.0,
    "attempts": [
        {"backend": "gpu-0", "model": "m", "why": "first", "opened_ms": 123.0, "sent_ms": 124.0, "ended_ms": 300.0,
         "outcome": "failed", "code": "backend_error"},
        {"backend": "gpu-1", "model": "m", "why": "refused", "opened_ms": 301.0, "sent_ms": 302.0, "first_ms": 600.0,
         "ended_ms": 2_000.0, "outcome": "done"},
    ],
    "pauses": [[900.0, 250.0]],
    "readers": [[1_200.0, "left"], [1_500.0, "resumed"], [1_700.0, "taken_over"]],
}  # fmt: skip
FIELDS = {
    "request_id": "r-1", "operation": "chat", "model": "m", "transport": "sse", "tenant": "acme", "key_id": "k-1",
    "priority": 5, "outcome": "finished", "completion_tokens": 128, "ttft_ms": 600.0, "longest_gap_ms": 40.0,
    "duration_ms": 2_000.0, "timeline": TIMELINE,
}  # fmt: skip


def event(kind: str = "stream.end", **fields: object) -> Event:
    return Event(
        id="e", kind=kind, site="berlin", source="edge", at_ms=1_795_687_200_123, fields={**FIELDS, **fields}
    )


def test_a_stream_s_life_is_drawn_in_its_order():
    lines = render(event(), SCREEN)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "tenant acme, key k-1" in text
    assert "finished after 2,000 ms: 128 tokens, first event after 600 ms, longest gap 40 ms" in text
    told = [row.split(" ms  ", 1)[1] for row in lines if " ms  " in row]
    assert told == [
        "the request was whole, and admitted",
        "routed",
        "all backends were full: it stood in line for 120 ms",
        "attempt 1 at gpu-0 for m",
        "attempt 1 was sent",
        "attempt 1 failed: backend_error",
        "attempt 2 (refused) at gpu-1 for m",
        "attempt 2 was sent",
        "attempt 2 had its first event",
        "the reader was slow: the backend paused for 250 ms",
        "the reader left; the stream runs on",
        "a reader came back",
        "another reader took it over",
        "attempt 2 done",
        "finished",
    ]
    bars = {row[:18].strip(): row[19:67] for row in lines if any(mark in row for mark in "░▒█▓─")}
    assert list(bars) == ["in line", "1 gpu-0", "2 gpu-1", "paused", "reader"]
    assert bars["2 gpu-1"].strip().strip("▒█") == ""
    # Left at 60 %, back at 75 %, taken over at 85 %.
    reader = bars["reader"]
    assert [reader[int(48 * part)] for part in (0.3, 0.7, 0.8, 0.85)] == ["─", " ", "─", "◆"]


@pytest.mark.parametrize("timeline", [{}, None, {"attempts": []}, {"attempts": [{"backend": "x" * 40}]}])
def test_whatever_an_event_lacks_it_is_drawn(timeline):
    lines = render(event(timeline=timeline, duration_ms=None), SCREEN)
    assert max(map(len, lines)) <= 100


def test_a_request_that_was_shed_has_no_picture():
    (last,) = render(event("stream.shed", code="saturated"), SCREEN)[-1:]
    assert last == "refused before a backend was asked: saturated"


def test_an_event_is_one_line_without_its_timeline():
    text = line(event(), SCREEN)
    assert "\n" not in text
    assert "berlin  edge      stream.end  request_id=r-1" in text
    assert "timeline" not in text


SEEN = [event(), event("stream.shed", code="saturated"), event("lease.granted")]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("found", SEEN, ids=lambda found: found.kind)
def test_in_a_terminal_it_is_as_wide_as_that_at_most(found: Event, width: int, monkeypatch):
    """By what is seen: colours take no room."""
    monkeypatch.setattr(SCREEN, "_coloured", True)
    painted = brief(found, SCREEN, width)
    shown = re.sub(r"\x1b\[\d*m", "", painted)
    assert "\x1b" in painted
    assert len(shown) <= width
    whole = brief(found, Screen(io.StringIO()), 10_000)
    assert (shown == whole) is (len(whole) <= width)
    assert shown == whole or (shown.endswith("…") and whole.startswith(shown[:-1]))


def test_in_a_terminal_it_tells_what_one_looks_for_first():
    told = brief(event(served_model="qwen", backend="gpu-0", attempts=2), SCREEN, 200).split("  ")
    assert told[1:] == [
        *("berlin", "stream.end", "finished", "r-1", "ttft 600 ms", "128 tokens", "2.0 s", "qwen at gpu-0"),
        *("2 attempts", "tenant acme"),
    ]
    # An id is copied for `headrace trace`: one of ours is whole in a window of 80 columns.
    name = "0123456789abcdef" * 2
    assert name in brief(event(request_id=name), SCREEN, 80)
    failed = brief(event(outcome="failed", code="stream_broken", lost="silent"), SCREEN, 200)
    assert "failed stream_broken" in failed
    assert "lost: silent" in failed
    shed = brief(event("stream.shed", code="saturated", left_out=12), SCREEN, 200).split("  ")
    assert shed[2:] == ["stream.shed", "saturated", "r-1", "m", "tenant acme", "and 12 more before it"]
    other = Event(id="e", kind="backend.down", site="berlin", source="control", at_ms=0, fields={"backend": "gpu-0"})
    assert brief(other, SCREEN, 200).endswith("berlin  backend.down  backend=gpu-0")


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (Filter(), True),
        (Filter(kind="stream"), True),
        (Filter(kind="stream.end"), True),
        (Filter(kind="stream.en"), False),
        (Filter(kind="lease"), False),
        (Filter(request_id="r-1", tenant="acme"), True),
        (Filter(request_id="r-2"), False),
        (Filter(tenant="other"), False),
        (Filter(site="paris"), False),
    ],
)
def test_what_is_asked_for(asked, taken):
    assert asked.takes(event()) is taken


def test_usage_is_a_table_with_its_sum():
    rows = [
        Row(tenant="acme", model="m", streams=3, prompt_tokens=1_000, completion_tokens=20, slot_s=3.25, gpu_s=6.0),
        Row(tenant="beta", model="m", streams=1, prompt_tokens=10, completion_tokens=2, slot_s=1.0),
    ]
    lines = table(rows, ["tenant", "model"], SCREEN)
    assert [row.split() for row in lines] == [
        ["TENANT", "MODEL", "STREAMS", "PROMPT", "COMPLETION", "SLOT-S", "GPU-S"],
        ["acme", "m", "3", "1,000", "20", "3.2", "6.0"],
        ["beta", "m", "1", "10", "2", "1.0", "?"],
        ["all", "-", "4", "1,010", "22", "4.2", "6.0"],
    ]
    assert table([], ["tenant"], SCREEN) == ["  nothing was used"]


@pytest.mark.parametrize("width", [80, 120])
def test_usage_fits_the_window_and_only_long_names_are_cut(width):
    row = Row(
        tenant="acme", key="hk-0123456789abcdef0123456789abcdef", model="qwen3-235b-a22b-instruct-2507-fp8",
        streams=12_345, prompt_tokens=98_765_432, completion_tokens=12_345_678, slot_s=123_456.7,
    )  # fmt: skip
    lines = table([row], ["tenant", "key", "model"], SCREEN, width)
    assert max(map(len, lines)) <= width
    assert all(figure in lines[1] for figure in ("acme ", "12,345", "98,765,432", "12,345,678", "123,456.7"))
    assert "…" in lines[1]
    assert "…" not in table([row], ["tenant", "model"], SCREEN, 120)[1]
    whole = table([row], ["tenant", "key", "model"], SCREEN)
    assert "…" not in whole[1]
    # No window is so narrow that nothing is left of a name.
    assert "hk-0123…" in table([row], ["tenant", "key", "model"], SCREEN, 40)[1]


def test_lengths_of_time():
    lengths = ("90s", "30m", "36h", "7d")
    assert tuple(durations.told(since(text)) for text in lengths) == lengths
    assert durations.told(since("24h")) == "1d"
    assert (since("90s"), since("7d")) == (timedelta(seconds=90), timedelta(days=7))
    for bad in ("", "7", "7w", "0h", "-1h"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a length of time"):
            since(bad)
