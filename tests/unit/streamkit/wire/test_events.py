from __future__ import annotations

from streamkit.wire.events import Batch, Event, Mark


def test_an_empty_batch_has_no_events() -> None:
    assert Batch(b"", 0).split() == ()


def test_one_ordinary_event_is_the_batch_itself() -> None:
    assert Batch(b"data: a\n\n", 1).split() == (Event(b"data: a\n\n"),)


def test_ordinary_events_are_cut_at_blank_lines() -> None:
    assert Batch(b"data: a\n\ndata: b\n\n", 2).split() == (Event(b"data: a\n\n"), Event(b"data: b\n\n"))


def test_listed_events_are_given_as_they_are() -> None:
    events = (Event(b"data: a\r\n\r\n"), Event(b"data: [DONE]\n\n", Mark.DONE))
    assert Batch(b"".join(event.data for event in events), 2, Mark.DONE, events).split() == events
