"""The spool under any order of arrivals and acknowledgements: bounded, in order, and nothing goes uncounted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observe.spool import Spool, Spooled

LIMIT_BYTES = 4_000
#: Arrivals by size in bytes, acknowledgements by which of those that wait.
STEPS = st.lists(
    st.one_of(st.tuples(st.just("push"), st.integers(0, 1_500)), st.tuples(st.just("ack"), st.integers(0, 9)))
)


@given(STEPS)
def test_every_event_is_stored_waiting_or_counted_as_dropped(steps):
    spool, pushed, acknowledged = Spool(LIMIT_BYTES), [], set()
    for what, number in steps:
        if what == "push":
            event = Spooled(f"life-{len(pushed) + 1}-0", "edge", "s", b"x" * number)
            pushed.append(event.id)
            spool.push(event)
        elif waiting := spool.next(10):
            id_ = waiting[number % len(waiting)].id
            acknowledged.add(id_)
            spool.stored(id_)
        waiting = [event.id for event in spool.next(len(pushed))]
        assert spool.size_bytes <= LIMIT_BYTES
        assert waiting == [id_ for id_ in pushed if id_ in set(waiting)], "oldest first"
        assert not set(waiting) & acknowledged
        assert len(spool) == len(waiting)
        assert len(pushed) == len(acknowledged) + len(waiting) + spool.dropped
        if seen := spool.seen.get("edge"):
            # Whatever a feed may forget is stored or dropped, and nothing before it waits.
            assert all(pushed.index(id_) > pushed.index(seen) for id_ in waiting)
    for event in spool.next(len(pushed)):
        spool.stored(event.id)
    assert (len(spool), spool.size_bytes) == (0, 0)
