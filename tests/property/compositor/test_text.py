"""Whatever is written, what is said of it has no marks that cannot be said, and cutting it loses no word."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from compositor.speech.text import pieces, speakable

MARKS = st.text(
    alphabet="ab1 .,!?*_~`#>-+[]()|<>\\/:&;\n\t\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\u3002\xad", max_size=200
)


@given(written=MARKS | st.text(max_size=200), limit=st.integers(1, 80))
@settings(max_examples=150, deadline=None)
def test_what_is_said_can_be_said_and_is_whole(written, limit):
    said = speakable(written)
    assert all(line and line == line.strip() for line in said.split("\n")) or said == ""
    assert all(character == "\n" or character.isprintable() or character == "\u200c" for character in said)
    assert "\N{GRINNING FACE}" not in said
    found = pieces(said, limit)
    assert all(piece and len(piece) <= limit for piece in found)
    # Quotes that close a sentence may go with the gap; letters and digits stay, in their order.
    assert [one for piece in found for one in piece if one.isalnum()] == [one for one in said if one.isalnum()]
