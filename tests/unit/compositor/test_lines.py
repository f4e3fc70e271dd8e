"""Utterances in order: numbers rise, an interrupt drops what is older, every one ends with exactly one mark."""

from __future__ import annotations

import pytest

from compositor.session.lines import Line, Lines, Outcome
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb


def line(number: int, epoch: int = 1, **fields) -> Line:
    made = Line(epoch, number, lambda: None)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def told(lines: Lines) -> list[tuple]:
    return [
        (pb.Mark.Kind.Name(mark.kind), mark.speech, mark.position_ms, mark.interrupted) for mark in lines.take_marks()
    ]


@pytest.fixture
def ended() -> list:
    return []


@pytest.fixture
def lines(ended) -> Lines:
    return Lines(3, ended.append)


def test_a_spoken_utterance_starts_with_its_first_tick_and_finishes_with_its_last(lines, ended):
    lines.add(line(1, taken=3))
    lines.played(lines.front)
    lines.settle()
    assert told(lines) == [("STARTED", 1, 40, False)]
    lines.played(lines.front)
    lines.front.over = True
    lines.settle()
    assert (told(lines), len(lines)) == ([], 1)
    lines.played(lines.front)
    lines.settle()
    assert told(lines) == [("FINISHED", 1, 120, False)]
    assert (ended, len(lines)) == ([Outcome.FINISHED], 0)


def test_an_interrupt_ends_what_is_older_wherever_it_stands(lines, ended):
    for number, epoch in ((1, 1), (2, 1), (3, 2)):
        lines.add(line(number, epoch))
    lines.played(lines.front)
    dropped = lines.interrupt(2)
    assert [one.number for one in dropped] == [1, 2]
    assert all(one.closed for one in dropped)
    assert told(lines) == [("STARTED", 1, 40, False), ("FINISHED", 1, 40, True), ("FINISHED", 2, 0, True)]
    assert (lines.front.number, lines.epoch) == (3, 2)
    assert lines.interrupt(2) == lines.interrupt(1) == []
    # What comes too late for its epoch is over at once; the caller is told.
    assert not lines.add(line(4, epoch=1))
    assert told(lines) == [("FINISHED", 4, 0, True)]
    assert ended == [Outcome.INTERRUPTED] * 3


def test_an_epoch_that_was_spoken_in_drops_nothing_by_itself(lines):
    lines.add(line(1, epoch=7))
    lines.played(lines.front)
    assert lines.epoch == 7
    assert lines.add(line(2, epoch=5))


def test_a_failure_comes_after_what_was_said_before_it(lines, ended):
    lines.add(line(1, taken=1, over=True, failure="the voice failed"))
    lines.add(line(2, over=True))
    lines.settle()
    assert told(lines) == []
    lines.played(lines.front)
    lines.settle()
    found = lines.take_marks()
    assert [(mark.kind, mark.speech, mark.message) for mark in found] == [
        (pb.Mark.STARTED, 1, ""),
        (pb.Mark.FAILED, 1, "the voice failed"),
        # Nothing to say is said at once.
        (pb.Mark.STARTED, 2, ""),
        (pb.Mark.FINISHED, 2, ""),
    ]
    assert ended == [Outcome.FAILED, Outcome.FINISHED]


def test_numbers_rise_and_only_so_many_wait(lines):
    lines.add(line(5))
    with pytest.raises(HeadraceError, match="expected more than 5, got 5") as caught:
        lines.add(line(5))
    assert caught.value.param == "speech"
    lines.add(line(6))
    lines.add(line(7))
    with pytest.raises(HeadraceError, match="3 utterances wait") as caught:
        lines.add(line(8))
    assert caught.value.code is Code.SATURATED


def test_marks_that_nobody_takes_are_bounded(lines):
    lines.interrupt(9)
    for number in range(1, 13):
        lines.add(line(number))
    with pytest.raises(HeadraceError, match="utterances wait"):
        lines.add(line(13))
    assert len(lines.marks) == 12
