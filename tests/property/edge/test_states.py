"""Walks through both tables at random: an end is final, and only the table moves a state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.protocol.states import (
    ATTEMPT_TABLE,
    STREAM_TABLE,
    AttemptEvent,
    AttemptState,
    LocalProtocolError,
    StreamEvent,
    StreamState,
    next_attempt,
    next_stream,
)


class StreamWalk(RuleBasedStateMachine):
    """A model in plain words beside the table."""

    def __init__(self) -> None:
        super().__init__()
        self.state = StreamState.PENDING
        self.committed = self.detached = self.ended = False

    @rule(event=st.sampled_from(StreamEvent))
    def happen(self, event: StreamEvent) -> None:
        possible = (
            not self.ended
            and {
                StreamEvent.COMMIT: not self.committed,
                StreamEvent.FINISH: True,
                StreamEvent.FAIL: True,
                StreamEvent.CANCEL: True,
                StreamEvent.DETACH: self.committed and not self.detached,
                StreamEvent.ATTACH: self.detached,
                StreamEvent.EXPIRE: self.detached,
            }[event]
        )
        if not possible:
            before = self.state
            with pytest.raises(LocalProtocolError):
                next_stream(self.state, event)
            assert self.state is before
            return
        self.state = next_stream(self.state, event)
        self.committed = self.committed or event is StreamEvent.COMMIT
        self.detached = event is StreamEvent.DETACH
        self.ended = event in (StreamEvent.FINISH, StreamEvent.FAIL, StreamEvent.CANCEL, StreamEvent.EXPIRE)

    @invariant()
    def agrees(self) -> None:
        assert self.state.ended is self.ended
        assert (self.state is StreamState.DETACHED) is (self.detached and not self.ended)
        assert (self.state is StreamState.PENDING) is not (self.committed or self.ended)


TestStreamWalk = StreamWalk.TestCase


@given(st.lists(st.sampled_from(AttemptEvent), max_size=8))
def test_an_attempt_is_sent_before_it_flows_and_ends_once(events: list[AttemptEvent]) -> None:
    state = AttemptState.CONNECTING
    taken: list[AttemptEvent] = []
    for event in events:
        try:
            state = next_attempt(state, event)
        except LocalProtocolError:
            assert (state, event) not in ATTEMPT_TABLE
        else:
            taken.append(event)
    ends = [event for event in taken if event in (AttemptEvent.END, AttemptEvent.FAIL, AttemptEvent.CANCEL)]
    assert len(ends) == state.ended
    assert ends == taken[len(taken) - len(ends) :], "nothing follows the end"
    if AttemptEvent.FIRST_EVENT in taken or AttemptEvent.END in taken:
        assert taken[0] is AttemptEvent.SENT


def test_tables_have_no_row_out_of_an_end() -> None:
    assert not [state for state, _ in (*STREAM_TABLE, *ATTEMPT_TABLE) if state.ended]
