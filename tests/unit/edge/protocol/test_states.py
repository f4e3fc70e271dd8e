"""Both state tables: what they hold, and that nothing else can happen."""

from __future__ import annotations

import enum
import re

import pytest

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
from tests.support import diagrams

TABLES = [
    pytest.param(STREAM_TABLE, StreamState, StreamEvent, next_stream, id="stream"),
    pytest.param(ATTEMPT_TABLE, AttemptState, AttemptEvent, next_attempt, id="attempt"),
]
tables = pytest.mark.parametrize(("table", "states", "events", "step"), TABLES)


@tables
def test_every_pair_either_leads_somewhere_or_is_our_bug(table, states, events, step) -> None:
    for state in states:
        for event in events:
            if (state, event) in table:
                assert step(state, event) is table[state, event]
            else:
                with pytest.raises(LocalProtocolError, match=state.value) as caught:
                    step(state, event)
                assert event.value in str(caught.value)


@tables
def test_ended_states_are_final_and_the_others_are_not(table, states, events, step) -> None:
    leading = {state for state, _ in table}
    assert {state for state in states if state.ended} == set(states) - leading


@tables
def test_every_state_is_reached_and_every_event_is_used(table, states, events, step) -> None:
    reached = {next(iter(states))}
    while more := {target for (state, _), target in table.items() if state in reached} - reached:
        reached |= more
    assert reached == set(states)
    assert {event for _, event in table} == set(events)


@tables
def test_an_end_can_be_reached_from_everywhere(table, states, events, step) -> None:
    for state in states:
        assert state.ended or any(target.ended for (start, _), target in table.items() if start is state)


def test_a_stream_commits_once() -> None:
    assert [state for state, event in STREAM_TABLE if event is StreamEvent.COMMIT] == [StreamState.PENDING]


def test_only_a_reader_less_stream_expires() -> None:
    assert [state for state, event in STREAM_TABLE if event is StreamEvent.EXPIRE] == [StreamState.DETACHED]


@tables
def test_the_diagram_is_the_table(table, states, events, step) -> None:
    first, begin, *rows = diagrams.drawn(table).splitlines()
    assert first == "stateDiagram-v2"
    assert begin.split() == ["[*]", "-->", next(iter(states)).value]
    drawn, ends = {}, set()
    names = {state.value: state for state in states}
    for row in rows:
        match = re.fullmatch(r"    (\w+) --> (\[\*\]|\w+)(?:: (.+))?", row)
        assert match
        source, target, label = match.groups()
        if target == "[*]":
            ends.add(names[source])
        else:
            drawn[names[source], events(label)] = names[target]
    assert drawn == table
    assert ends == {state for state in states if state.ended}


def test_states_and_events_are_enums_with_distinct_names() -> None:
    for kind in (StreamState, StreamEvent, AttemptState, AttemptEvent):
        assert issubclass(kind, enum.Enum)
        assert len({member.value for member in kind}) == len(kind.__members__)
