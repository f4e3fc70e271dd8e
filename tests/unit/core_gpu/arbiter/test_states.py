"""The table of a lease's states."""

from __future__ import annotations

import pytest

from core_gpu.arbiter.states import TABLE, ImpossibleError, LeaseEvent, LeaseState, next_state
from streamkit.wire.pb import modelops_pb2 as pb


def test_every_state_can_be_reached_and_leads_to_an_end():
    reached, fresh = set(), {LeaseState.GRANTED}
    while fresh:
        reached |= fresh
        fresh = {target for (state, _), target in TABLE.items() if state in reached} - reached
    assert reached == set(LeaseState)
    for state in LeaseState:
        assert state.ended == all(source is not state for source, _ in TABLE)


def test_nothing_gives_a_fenced_or_expired_lease_back_to_its_holder():
    for state in (LeaseState.FENCED, LeaseState.RECLAIMING, LeaseState.RELEASING):
        assert not any(target.held for (source, _), target in TABLE.items() if source is state)


def test_what_cannot_happen_is_our_bug():
    with pytest.raises(ImpossibleError, match="a lease that is RELEASED cannot expire"):
        next_state(LeaseState.RELEASED, LeaseEvent.EXPIRE)


def test_the_wire_has_the_same_names_and_numbers():
    for state in LeaseState:
        assert pb.LeaseState.Value(f"LEASE_STATE_{state.name}") == state.value
