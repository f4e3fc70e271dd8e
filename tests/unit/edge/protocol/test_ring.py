from __future__ import annotations

import pytest

from edge.protocol.ring import CHARGE_BYTES, EVENT_OVERHEAD_BYTES, Ring
from streamkit.flow.budget import Budget
from streamkit.wire.errors import Code, HeadraceError

EVENT = b"data: x\n\n"
SIZE = len(EVENT) + EVENT_OVERHEAD_BYTES


def ring(events: int = 8, limit_bytes: int = 1 << 20) -> tuple[Ring, Budget]:
    """Return a ring with room for so many events, and the budget that it is charged to."""
    budget = Budget(limit_bytes)
    return Ring(events * SIZE, budget), budget


def test_events_are_numbered_from_one_and_taken_in_order() -> None:
    made, budget = ring()
    assert (made.last, made.oldest) == (0, 1)
    assert made.append(b"data: a\n\n" + b"data: b\r\n\r\n" + b"data: c\ndata: c\n\n")
    assert made.last == 3
    assert made.take(1) == [b"data: a\n\n"]
    assert made.take(1000) == [b"data: b\r\n\r\n", b"data: c\ndata: c\n\n"]
    assert made.take(1000) == []
    assert (made.sent, made.unsent_bytes) == (3, 0)
    assert 0 < made.size_bytes <= budget.used_bytes <= CHARGE_BYTES
    made.clear()
    assert budget.used_bytes == 0
    assert made.take(1000) == []


def test_sent_events_are_kept_up_to_the_bound_and_unsent_ones_beyond_it() -> None:
    made, budget = ring(events=8)
    assert made.append(EVENT * 8)
    assert made.oldest == 1
    assert made.append(EVENT * 3)
    assert (made.oldest, made.size_bytes) == (1, 11 * SIZE), "nothing unsent is dropped"
    made.take(2 * len(EVENT))
    assert made.oldest == 3
    made.take(1000)
    assert (made.oldest, made.size_bytes) == (4, 8 * SIZE)
    assert made.size_bytes <= budget.used_bytes <= made.size_bytes + 2 * CHARGE_BYTES


def test_an_event_larger_than_the_bound_is_given_whole_to_a_reader_that_is_up_to_date() -> None:
    made, budget = ring(events=2)
    large = b"data: %b\n\n" % (b"x" * 3 * SIZE)
    assert made.append(large)
    assert made.take(1) == [large]
    assert (made.sent, made.oldest, made.size_bytes) == (1, 2, 0), "sent, it is more than may be kept"
    made.clear()
    assert budget.used_bytes == 0


def test_three_quarters_unsent_is_full_and_half_is_roomy() -> None:
    made, _ = ring(events=8)
    made.append(EVENT * 6)
    assert not made.full
    made.append(EVENT)
    assert made.full
    made.take(2 * len(EVENT))
    assert not made.roomy
    made.take(len(EVENT))
    assert made.roomy
    assert made.oldest == 1, "a quarter is kept for those that were sent"


def test_a_reader_may_begin_anew_at_any_event_that_is_kept() -> None:
    made, _ = ring(events=4)
    for _ in range(6):
        made.append(EVENT)
        made.take(1)
    assert made.oldest == 3
    for after in (2, 3, 5, 6):
        made.rewind(after)
        assert (made.sent, made.unsent_bytes) == (after, (6 - after) * SIZE)
    with pytest.raises(HeadraceError, match="Event 2 is no longer kept; the oldest one is 3") as gone:
        made.rewind(1)
    assert gone.value.code is Code.GONE
    with pytest.raises(HeadraceError, match="6 events so far") as early:
        made.rewind(7)
    assert early.value.code is Code.INVALID_REQUEST
    assert made.sent == 6, "a refusal changes nothing"


def test_what_a_reader_that_came_back_was_not_sent_again_is_not_dropped() -> None:
    made, _ = ring(events=4)
    made.append(EVENT * 4)
    made.take(1000)
    made.rewind(0)
    made.append(EVENT * 4)
    assert (made.oldest, made.full) == (1, True)
    assert len(made.take(10_000)) == 8


def test_used_up_memory_takes_sent_events_first_and_then_refuses() -> None:
    made, budget = ring(events=100, limit_bytes=4 * SIZE)
    assert made.append(EVENT * 4)
    made.take(2 * len(EVENT))
    assert made.append(EVENT * 2)
    assert (made.oldest, made.last) == (3, 6)
    assert not made.append(EVENT)
    assert (made.last, budget.used_bytes) == (6, 4 * SIZE), "nothing was kept of it"
    assert made.append(EVENT, last_words=True)
    assert (made.last, budget.used_bytes) == (7, 4 * SIZE)
    assert len(made.take(10_000)) == 5
    made.clear()
    assert budget.used_bytes == 0


def test_last_words_that_were_never_charged_are_never_given_back() -> None:
    made, budget = ring(events=2, limit_bytes=2 * SIZE)
    assert made.append(EVENT * 2)
    assert made.append(EVENT, last_words=True)
    made.take(10_000)
    assert (made.size_bytes, made.oldest) == (2 * SIZE, 2)
    assert budget.used_bytes == 2 * SIZE
    made.clear()
    assert budget.used_bytes == 0


def test_a_long_stream_keeps_no_trace_of_what_it_dropped() -> None:
    made, budget = ring(events=10)
    for number in range(1, 5_001):
        made.append(b"data: %d\n\n" % number)
        assert made.take(1) == [b"data: %d\n\n" % number]
    assert len(made._events) < 1_100
    assert budget.used_bytes <= 10 * SIZE + 2 * CHARGE_BYTES
    assert made.last == 5_000
    made.rewind(4_995)
    assert made.take(1) == [b"data: 4996\n\n"]
    made.clear()
    assert budget.used_bytes == 0


def test_memory_is_charged_in_steps_and_given_back_in_steps() -> None:
    made, budget = ring(events=1_000)
    charges = 0
    used = 0
    for _ in range(1_000):
        made.append(EVENT)
        charges += budget.used_bytes != used
        used = budget.used_bytes
    assert charges < 1_000 * SIZE // CHARGE_BYTES + 2
    made.take(1 << 20)
    made.append(b"data: " + b"x" * (1_000 * SIZE) + b"\n\n")
    made.take(1 << 20)
    assert made.size_bytes == 0, "it was larger than the bound"
    assert budget.used_bytes <= 2 * CHARGE_BYTES
    made.clear()
    assert budget.used_bytes == 0
