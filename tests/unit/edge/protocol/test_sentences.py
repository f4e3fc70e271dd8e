"""Which sentences a spoken answer has."""

from __future__ import annotations

import pytest

from edge.protocol.sentences import MAX_CHARS, Sentences


def spoken(text: str) -> list[str]:
    splitter = Sentences()
    return [*splitter.feed(text), *splitter.end()]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("No end", ["No end"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        # Abbreviations, initials, numbers.
        ("Dr. Smith met Mr. Jones. They spoke.", ["Dr. Smith met Mr. Jones.", "They spoke."]),
        ("Use lamps, e.g. Halogen. Good.", ["Use lamps, e.g. Halogen.", "Good."]),
        ("It was J. S. Bach. Listen.", ["It was J. S. Bach.", "Listen."]),
        ("So did I. Then we left.", ["So did I.", "Then we left."]),
        ("It costs 3.50 euros. Cheap.", ["It costs 3.50 euros.", "Cheap."]),
        ("The answer is 42. It always was.", ["The answer is 42.", "It always was."]),
        ("See no. 5 and fig. 3. No. I will not.", ["See no. 5 and fig. 3.", "No.", "I will not."]),
        ("It is approx. five. Das ist z.B. gut.", ["It is approx. five.", "Das ist z.B. gut."]),
        ("Open example.com/a.b now. Done.", ["Open example.com/a.b now.", "Done."]),
        ("Wait... what? Yes... No.", ["Wait... what?", "Yes...", "No."]),
        ("Really? yes.", ["Really?", "yes."]),
        # Chinese and Japanese need no space.
        ("你好。今天天气很好\uff01是吗\uff1f是", ["你好。", "今天天气很好\uff01", "是吗\uff1f", "是"]),
        ("彼は「はい。」と言った。終わり。", ["彼は「はい。」", "と言った。", "終わり。"]),
        # Markdown is not read aloud, code is left out.
        ("## A title\n\nSome **bold** _text_ with `code`.", ["A title", "Some bold text with code."]),
        ("1. First\n2. Second\n- third", ["First", "Second", "third"]),
        ("See [the docs](https://a.example/x.y).", ["See the docs."]),
        ("Look:\n```python\nprint('a. b.')\n```\nDone.", ["Look:", "Done."]),
        ("~~~\nA. B.\n```\nC.\n~~~\nEnd.", ["End."]),
        ("```\nnever closed. Really.", []),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["a b", "1 2"]),
        ("*** \n---\n👍", []),
        ("snake_case and __init__ stay.", ["snake_case and init stay."]),
    ],
)
def test_text_falls_into_sentences(text: str, sentences: list[str]):
    assert spoken(text) == sentences


def test_the_first_goes_out_before_the_second_is_there():
    splitter = Sentences()
    assert splitter.feed("Hello there") == []
    assert splitter.feed(". ") == []
    assert splitter.feed("I") == ["Hello there."]
    assert splitter.feed(" am. ") == []
    assert splitter.end() == ["I am."]
    assert splitter.feed("Again.") == []
    assert splitter.end() == ["Again."]


def test_what_never_ends_is_cut_and_held_in_bounds():
    splitter = Sentences()
    found: list[str] = []
    for _ in range(400):
        found += splitter.feed("word, and another ")
        assert len(splitter._text) <= MAX_CHARS + 20
    found += splitter.end()
    assert max(map(len, found)) <= MAX_CHARS
    assert " ".join(found).split() == ("word, and another " * 400).split()


@pytest.mark.parametrize("piece", ["x", ".", " ", "`", "```", '"', "\u3002", "```\n" + "y" * 40])
def test_no_text_makes_it_hold_more(piece: str):
    splitter = Sentences()
    for _ in range(3_000):
        splitter.feed(piece)
        assert len(splitter._text) <= MAX_CHARS + 60
