"""What was used, counted once whatever is read twice; leases over hours; and how it is added up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from observe.spans import HOUR_MS
from observe.tally import Hourly, LeaseHour, Tally
from observe.usage import added_up
from streamkit.wire.telemetry import Event, Spent

#: 2026-11-26 10:00 UTC.
NOON = datetime(2026, 11, 26, 10, tzinfo=UTC)
MINUTE_MS = 60_000
AT_MS = int(NOON.timestamp() * 1000)
HOUR = AT_MS // HOUR_MS


@pytest.fixture
def tally(tmp_path: Path) -> Iterator[Tally]:
    ours = Tally(tmp_path / "usage.db")
    yield ours
    ours.close()


def event(kind: str, at_ms: int = AT_MS, **fields: Any) -> Event:
    return Event(id=f"e-{kind}-{at_ms}", kind=kind, site="here", source="edge", at_ms=at_ms, fields=fields)


def ended(at_ms: int = AT_MS, **fields: Any) -> Event:
    attempts = [{"backend": "gpu0", "opened_ms": 10.0, "ended_ms": 2_010.0}]
    whole = {
        "tenant": "acme", "key_id": "k-1", "served_model": "m", "backend": "gpu0", "prompt_tokens": 7,
        "completion_tokens": 13, "timeline": {"attempts": attempts}, **fields,
    }  # fmt: skip
    return event("stream.end", at_ms + MINUTE_MS, **whole)


def test_a_stream_is_counted_once_however_often_it_is_read(tally: Tally, tmp_path: Path):
    events = [(1, ended()), (2, ended())]
    tally.count("EVENTS", events)
    tally.count("EVENTS", [*events, (3, ended())])
    assert tally.place("EVENTS") == 3
    assert tally.hourly(HOUR, HOUR + 1) == [Hourly(HOUR, "acme", "k-1", "m", "gpu0", 3, 21, 39, 6_000)]
    again = Tally(tmp_path / "usage.db")
    again.count("EVENTS", events)
    assert again.hourly(HOUR, HOUR + 1)[0].streams == 3
    again.close()


def test_slot_time_is_that_of_the_backend_that_was_held_and_tokens_are_of_the_one_that_answered(tally: Tally):
    attempts = [
        {"backend": "gpu0", "opened_ms": 0.0, "ended_ms": 500.0},
        {"backend": "gpu1", "opened_ms": 500.0, "ended_ms": 1_500.0},
    ]
    tally.count("EVENTS", [(1, ended(backend="gpu1", timeline={"attempts": attempts}))])
    rows = {row.backend: (row.streams, row.completion, row.slot_ms) for row in tally.hourly(HOUR, HOUR + 1)}
    assert rows == {"gpu0": (0, 0, 500), "gpu1": (1, 13, 1_000)}


def test_a_slot_is_counted_in_the_hours_that_it_was_held_in(tally: Tally):
    """From 09:30 to 11:30, the request in line for its first ten minutes and one more in which it ended."""
    half = HOUR_MS // 2
    length = 4 * half + 11 * MINUTE_MS
    attempts = [{"backend": "gpu0", "opened_ms": 10 * MINUTE_MS, "ended_ms": length - MINUTE_MS}]
    end_ms = AT_MS + 3 * half + MINUTE_MS
    whole = ended(end_ms - MINUTE_MS, duration_ms=float(length), timeline={"attempts": attempts})
    assert whole.at_ms == end_ms
    tally.count("EVENTS", [(1, whole)])
    found = {row.hour - HOUR: (row.streams, row.completion, row.slot_ms) for row in tally.hourly(0, HOUR + 9)}
    assert found == {-1: (0, 0, half), 0: (0, 0, HOUR_MS), 1: (1, 13, half)}


@pytest.mark.parametrize("attempts", ["none", [7], [{"opened_ms": "x", "ended_ms": -5}], [{"ended_ms": None}]])
def test_attempts_that_are_none_have_no_slots(tally: Tally, attempts: object):
    tally.count("EVENTS", [(1, ended(timeline={"attempts": attempts}))])
    assert [(row.streams, row.slot_ms) for row in tally.hourly(0, HOUR + 9)] == [(1, 0)]


def test_an_engine_that_claims_the_moon_does_not_end_the_counting(tally: Tally):
    for sequence in range(1, 4):
        tally.count("EVENTS", [(sequence, ended(prompt_tokens=1 << 63, completion_tokens=1e30))])
    (row,) = tally.hourly(HOUR, HOUR + 1)
    assert (row.streams, row.prompt, row.completion) == (3, 3 << 40, 3 << 40)


def test_what_is_no_number_or_not_there_counts_nothing(tally: Tally):
    bare = event("stream.end", tenant="acme", completion_tokens="many", timeline="none")
    tally.count("EVENTS", [(1, bare), (2, event("stream.shed", tenant="acme"))])
    assert tally.hourly(HOUR, HOUR + 1) == [Hourly(HOUR, "acme", "", "-", "", 1, 0, 0, 0)]


def test_payers_spend_by_the_day_and_the_month_and_a_user_spends_his_key_s(tally: Tally, tmp_path: Path):
    day_ms = 24 * HOUR_MS
    tally.count(
        "EVENTS",
        [
            (1, ended(AT_MS - 40 * day_ms)),
            (2, ended(AT_MS - day_ms)),
            (3, ended(AT_MS)),
            (4, ended(AT_MS, key_id="k-1/ann")),
            (5, ended(AT_MS, key_id="", tenant="other")),
        ],
    )
    spent = [
        Spent(payer="key:k-1", day=40, month=60),
        Spent(payer="tenant:acme", day=40, month=60),
        Spent(payer="tenant:other", day=20, month=20),
    ]
    assert tally.spent(NOON) == spent
    # Added up as it comes, or read from the file: the same. A second copy adds nothing.
    tally.count("EVENTS", [(5, ended(AT_MS)), (6, ended(AT_MS)), (7, ended(AT_MS - day_ms))])
    more = [msgspec.structs.replace(one, day=one.day + 20, month=one.month + 40) for one in spent[:2]]
    assert tally.spent(NOON) == [*more, spent[2]]
    again = Tally(tmp_path / "usage.db")
    assert again.spent(NOON) == tally.spent(NOON)
    again.close()
    # The next day, and the next month.
    assert tally.spent(NOON + timedelta(days=1))[0] == Spent(payer="key:k-1", day=0, month=100)
    assert tally.spent(NOON + timedelta(days=10)) == []


def lease(kind: str, at_ms: int, state: str = "GRANTED", name: str = "l-1") -> Event:
    return event(f"lease.{kind}", at_ms, host="gpu-a", lease=name, client="gpu0", state=state)


def test_leases_are_spread_over_the_hours_that_they_were_held_in(tally: Tally):
    end_ms = AT_MS + HOUR_MS + HOUR_MS // 2
    tally.count(
        "EVENTS",
        [
            (1, lease("granted", AT_MS + HOUR_MS // 2)),
            (2, lease("release", end_ms, "RELEASING")),
            (3, lease("back", end_ms, "RELEASED")),
            (4, lease("granted", end_ms, name="l-2")),
        ],
    )
    found = tally.leased(HOUR, HOUR + 2, now_ms=end_ms + 1_000)
    half = HOUR_MS // 2
    assert found == [LeaseHour(HOUR, "gpu0", half), LeaseHour(HOUR + 1, "gpu0", half + 1_000)]


@pytest.mark.parametrize("jump_ms", [5_000 - AT_MS, -HOUR_MS, HOUR_MS])
def test_a_lease_is_as_long_as_its_arbiter_s_own_clock_says(tally: Tally, jump_ms: int):
    """The wall clock is set right while it is held: granted in 1970, or an hour off."""
    over = lease("back", AT_MS + MINUTE_MS, "RELEASED")
    over.fields["held_s"] = 5.5
    tally.count("EVENTS", [(1, lease("granted", AT_MS + jump_ms)), (2, over)])
    assert tally.leased(0, HOUR + 9, now_ms=AT_MS + HOUR_MS) == [LeaseHour(HOUR, "gpu0", 5_500)]


def test_an_arbiter_that_starts_anew_ends_the_leases_that_it_does_not_know(tally: Tally):
    restored = event("lease.restored", AT_MS + 5_000, host="gpu-a", leases=["l-2"])
    tally.count("EVENTS", [(1, lease("granted", AT_MS)), (2, lease("granted", AT_MS, name="l-2")), (3, restored)])
    assert tally.leased(HOUR, HOUR + 1, now_ms=AT_MS + 9_000) == [LeaseHour(HOUR, "gpu0", 5_000 + 9_000)]


def test_gpu_time_goes_to_those_who_had_slots_and_the_rest_is_idle():
    hours = [
        Hourly(1, "acme", "k-1", "m", "gpu0", 3, 10, 20, 3_000),
        Hourly(1, "beta", "k-2", "m", "gpu0", 1, 1, 2, 1_000),
        Hourly(1, "beta", "k-2", "n", "elsewhere", 1, 5, 5, 500),
    ]
    leased = [LeaseHour(1, "gpu0", 8_000), LeaseHour(2, "gpu0", 4_000)]
    rows = {
        row.tenant: (row.streams, row.prompt_tokens, row.slot_s, row.gpu_s)
        for row in added_up(hours, leased, ("tenant",))
    }
    assert rows == {"acme": (3, 10, 3.0, 6.0), "beta": (2, 6, 1.5, 2.0), "(idle)": (0, 0, 0.0, 4.0)}
    by_model = {row.model: row.gpu_s for row in added_up(hours, leased, ("model",))}
    # Of a backend without leases nobody knows the GPU time, and nobody makes one up.
    assert by_model == {"m": 8.0, "n": None, "(idle)": 4.0}


def test_a_stream_that_was_made_anew_counts_nothing_twice(tally: Tally):
    tally.count("CENTRAL", [(1, ended(AT_MS)), (2, ended(AT_MS + 1_000))])
    tally.forget("CENTRAL", AT_MS + HOUR_MS)
    assert tally.place("CENTRAL") == 0
    # Gathered once more from the sites, and then what is new.
    tally.count("CENTRAL", [(1, ended(AT_MS)), (2, ended(AT_MS + 1_000)), (3, ended(AT_MS + 2_000))])
    tally.count("CENTRAL", [(4, ended(AT_MS + 1_500))])
    assert [row.streams for row in tally.hourly(HOUR, HOUR + 1)] == [4]
    assert tally.spent(NOON)[0] == Spent(payer="key:k-1", day=80, month=80)


def test_a_clock_that_was_ahead_passes_nothing_over(tally: Tally):
    tally.count("CENTRAL", [(1, ended(AT_MS + 1_000 * HOUR_MS))])
    tally.forget("CENTRAL", AT_MS)
    tally.count("CENTRAL", [(1, ended(AT_MS + 1))])
    assert [row.streams for row in tally.hourly(HOUR, HOUR + 1)] == [1]


def test_old_hours_are_dropped(tally: Tally):
    tally.count("EVENTS", [(1, ended(AT_MS)), (2, ended(AT_MS + HOUR_MS))])
    tally.drop_before(HOUR + 1)
    assert [row.hour for row in tally.hourly(0, HOUR + 9)] == [HOUR + 1]
