"""What is said of what is written."""

from __future__ import annotations

import pytest

from compositor.speech.text import pieces, speakable


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello there.", "Hello there."),
        ("**Bold**, *it* and __both__, ~~gone~~ `code()`.", "Bold, it and both, gone code()."),
        ("# Heading\nText", "Heading.\nText."),
        ("- one\n- [x] two\n* three", "one.\ntwo.\nthree."),
        ("1. first\n2. second", "1. first.\n2. second."),
        ("> quoted\n> > deeper", "quoted.\ndeeper."),
        ("See [the page](https://x.org/a_(b)?q=1) now.", "See the page now."),
        ("![a cat](cat.png) sits.", "a cat sits."),
        ("Go to https://www.example.org/a/b?c=d.", "Go to example.org."),
        ("Before\n```python\nx = 1\n```\nafter", "Before.\nafter."),
        ("Unclosed\n```\nx = 1\n", "Unclosed."),
        ("Good \N{GRINNING FACE} day \N{PARTY POPPER}!", "Good day!"),
        ("family \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN} here", "family here."),
        ("soft\N{SOFT HYPHEN}ware", "software."),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b.\n1, 2."),
        ("one<br>two &amp; three", "one two & three."),
        ("3 * 4 is 12", "3 times 4 is 12."),
        ("snake_case stays, _this_ does not", "snake_case stays, this does not."),
        ("20\N{DEGREE SIGN}C outside", "20\N{DEGREE SIGN}C outside."),
        ("Grüße aus Köln, 你好。", "Grüße aus Köln, 你好。"),
        ("---\n\N{GRINNING FACE}\n***", ""),
        ("  \n\t\n", ""),
        ("a\x00b\x07c", "a b c."),
    ],
)
def test_marks_are_not_read_aloud(written, said):
    assert speakable(written) == said


def test_what_was_made_speakable_stays_so():
    once = speakable("# A\n- **b** c!\n\nSee [d](e).")
    assert speakable(once) == once


def test_a_text_is_cut_at_sentences_and_long_ones_between_words():
    assert pieces("One. Two! Three?\nFour", 100) == ["One.", "Two!", "Three?", "Four"]
    assert pieces("3.5 is not two. It is one.", 100) == ["3.5 is not two.", "It is one."]
    long = pieces("word " * 100, 60)
    assert max(map(len, long)) <= 60
    assert " ".join(long) == ("word " * 100).strip()
    assert pieces("x" * 130, 60) == ["x" * 60, "x" * 60, "x" * 10]
    assert pieces("你好。再见。", 60) == ["你好。", "再见。"]
    assert pieces("a long beginning of it, and the rest of it", 30)[0] == "a long beginning of it,"
    assert pieces("", 10) == []


@pytest.mark.parametrize(
    "hostile",
    [
        *("[a](" * 1000, "[" * 4000, "```\n" * 1000, "(" * 4000, "_*" * 2000, "<a" * 2000, "|-" * 2000, "`" * 4000),
        *("[a](" + "(b)" * 1300, "> " * 2000, "*" * 4000, "www." * 1000, "-" * 3999 + "x", "- " * 1999 + "x"),
        *(" " * 3999 + "x", "- |" * 1300 + "x"),
    ],
    ids=range(16),
)
def test_hostile_text_ends(hostile):
    # A pattern that backtracks without bound would run into the suite's own deadline.
    assert all(len(piece) <= 200 for piece in pieces(speakable(hostile), 200))
