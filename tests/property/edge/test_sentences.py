"""Sentences do not depend on where the stream was cut into deltas."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.sentences import MAX_CHARS, Sentences

WORDS = st.sampled_from(
    [
        *("a", "Hi", "Dr", "e.g", "No", "3", "12", "I", "J", "z.B", "ß", "é", "word" * 60),
        *("```", "~~~", "`", "*", "**", "- ", "1. ", "# "),
        *("\n", "\n\n", " ", "  ", "    ", "\t"),
        *(".", "...", "?", "!", "…", "。", "「", "」", '"', ")", ","),
    ]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=60).map("".join), st.text(max_size=200))


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 2_000), max_size=12))
def test_any_cut_gives_the_same(text: str, at: list[int]):
    whole = Sentences()
    expected = [*whole.feed(text), *whole.end()]
    cuts = sorted({0, len(text), *(place for place in at if place < len(text))})
    splitter, found = Sentences(), []
    for start, end in pairwise(cuts):
        found += splitter.feed(text[start:end])
    found += splitter.end()
    assert found == expected
    assert all(len(sentence) <= MAX_CHARS + 16 and sentence.strip() for sentence in found)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_letter_by_letter_too(text: str):
    whole, single = Sentences(), Sentences()
    found = [sentence for letter in text for sentence in single.feed(letter)]
    assert [*found, *single.end()] == [*whole.feed(text), *whole.end()]
