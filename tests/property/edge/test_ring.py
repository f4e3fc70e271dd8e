"""A ring against the simplest thing that could replace it: a list of all events, and a few sums."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.ring import CHARGE_BYTES, EVENT_OVERHEAD_BYTES, Ring
from streamkit.flow.budget import Budget
from streamkit.wire.errors import HeadraceError

BOUND = 1_000
EVENTS = [b"data: %b\n\n" % (b"x" * size) for size in (0, 1, 30, 400, 1_500)]
EVENTS += [b"data: a\r\n\r\n", b"event: b\ndata: 1\ndata: 2\n\n"]

acts = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.sampled_from(EVENTS), min_size=1, max_size=5)),
        st.tuples(st.just("take"), st.integers(1, 2_000)),
        st.tuples(st.just("rewind"), st.integers(0, 40)),
        st.tuples(st.just("words"), st.just(None)),
    ),
    max_size=60,
)


@given(acts, st.sampled_from([10_000_000, 3_000]))
def test_whatever_happens_a_reader_gets_every_event_once_and_all_is_given_back(plan, limit_bytes):
    budget = Budget(limit_bytes)
    ring = Ring(BOUND, budget)
    everything: list[bytes] = []
    cursor = 0
    spoken = False
    for what, how in plan:
        if what in ("append", "words"):
            if spoken:
                continue  # nothing follows last words
            events = how or [b"data: end\n\n"]
            spoken = what == "words"
            if ring.append(b"".join(events), last_words=spoken):
                everything += events
            else:
                assert limit_bytes == 3_000
        elif what == "take":
            taken = ring.take(how)
            assert taken == everything[cursor : cursor + len(taken)]
            assert bool(taken) == (cursor < len(everything))
            cursor += len(taken)
        else:
            try:
                ring.rewind(how)
                cursor = how
            except HeadraceError:
                assert how > len(everything) or how + 1 < ring.oldest
        assert ring.last == len(everything)
        assert ring.sent == cursor
        assert ring.oldest <= cursor + 1, "nothing unsent is dropped"
        kept = everything[ring.oldest - 1 :]
        assert ring.size_bytes == sum(len(event) + EVENT_OVERHEAD_BYTES for event in kept)
        unsent = everything[cursor:]
        assert ring.unsent_bytes == sum(len(event) + EVENT_OVERHEAD_BYTES for event in unsent)
        assert ring.size_bytes <= BOUND or ring.oldest == cursor + 1, "more than the bound is unsent only"
        assert budget.used_bytes <= ring.size_bytes + 2 * CHARGE_BYTES
        assert spoken or budget.used_bytes >= ring.size_bytes
    ring.clear()
    assert budget.used_bytes == 0
