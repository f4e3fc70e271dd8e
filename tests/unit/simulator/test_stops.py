from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.stops import Stops


def run(pieces: list[str], *strings: str, keep: bool = False) -> tuple[str, str | None]:
    stops = Stops(strings, keep=keep)
    said = ""
    for piece in pieces:
        text, found = stops.feed(piece)
        said += text
        if found is not None:
            return said, found
    return said + stops.rest(), None


@pytest.mark.parametrize(
    ("pieces", "strings", "expected"),
    [
        (["lo", "in", " else"], ("in ",), ("lo", "in ")),
        (["abc"], ("zz",), ("abc", None)),
        (["a", "b", "c", "d"], ("bcd",), ("a", "bcd")),
        (["one two"], ("two", "ne"), ("o", "ne")),
        (["x", "st", "op"], ("stopper", "st"), ("x", "st")),
    ],
)
def test_the_text_ends_before_the_first_stop_string(
    pieces: list[str], strings: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    assert run(pieces, *strings) == expected


def test_a_stop_string_can_be_kept() -> None:
    assert run(["a b", " c"], "b ", keep=True) == ("a b ", "b ")


@given(st.lists(st.text("ab ", max_size=4), max_size=12), st.text("ab ", min_size=1, max_size=3))
def test_cutting_the_text_differently_changes_nothing(pieces: list[str], string: str) -> None:
    whole = "".join(pieces)
    expected = (whole[: whole.index(string)], string) if string in whole else (whole, None)
    assert run(pieces, string) == expected
