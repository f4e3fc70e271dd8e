"""From the pieces of a streamed answer to sentences that can be spoken, each as soon as it is certain.

What comes out depends on the text alone and never on where it was cut: a decision waits until it has seen all that it
looks at. Code blocks are left out, and marks of markdown are taken off, because nobody wants to hear them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_CHARS", "Sentences"]

#: A sentence without an end is cut at a pause or a space before this.
MAX_CHARS: Final = 320
_STOPS: Final = frozenset(".!?…")
#: They end a sentence without a space behind them.
_CJK_STOPS: Final = frozenset("\u3002\uff01\uff1f\uff61")
_CLOSERS: Final = frozenset("\"')]}*_`\u00bb\u201d\u2019\u300d\u300f\uff09\u3011")
#: How far a decision looks ahead over stops, closers and spaces, each.
_LOOK: Final = 16
_WORD: Final = re.compile(r"[^\W\d_](?:[^\W_]|\.(?=[^\W\d_]))*\Z")
#: Never the last word of a sentence.
_TITLES: Final = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "sr",
        "jr",
        "gen",
        "col",
        "lt",
        "sgt",
        "rev",
        "hon",
        "vs",
        "e.g",
        "i.e",
        "z.b",
        "d.h",
        "u.a",
        "bzw",
        "ca",
        "approx",
        "cf",
        "resp",
        "incl",
        "excl",
    ]
)
#: An abbreviation only in front of a number.
_NUMBERED: Final = frozenset(
    ["no", "nr", "fig", "vol", "p", "pp", "art", "abs", "abb", "sec", "eq", "ch", "nos", "ed"]
)
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_MAYBE_FENCE: Final = re.compile(r" {0,3}(?:`{0,2}|~{0,2})\Z")
_FENCE_CHARS: Final = 8

_LINK: Final = re.compile(r"!?\[([^\]\n]{0,200})\]\([^)\n]{0,2000}\)")
_LEAD: Final = re.compile(r"^\s*(?:#{1,6}\s+|>\s*|[-*+•]\s+|\d{1,3}[.)]\s+)+")
_MARKS: Final = re.compile(r"\*{1,3}|_{2,3}|(?<!\w)_|_(?!\w)|`+|~~")
_RULE: Final = re.compile(r"[|\s:=-]{3,}|\|")
_SPACES: Final = re.compile(r"\s+")


class Sentences:
    """Takes text as it comes, and gives back each sentence that is whole."""

    __slots__ = ("_at", "_fence", "_fresh", "_text")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        #: From the beginning of the sentence that is not whole; bounded, because a long one is cut.
        self._text = ""
        #: Before this nothing ends the sentence.
        self._at = 0
        #: What opened the code block that we are in.
        self._fence = ""
        #: A line begins here; in a code block: it is the first one, which cannot end it.
        self._fresh = True

    def feed(self, text: str) -> list[str]:
        """Return the sentences that `text` makes certain."""
        self._text += text
        return self._scan(last=False)

    def end(self) -> list[str]:
        """Return what is left: the text is over. The next `feed` begins another one."""
        found = self._scan(last=True)
        self._begin()
        return found

    def _scan(self, *, last: bool) -> list[str]:
        found: list[str] = []
        while self._text:
            if self._fence:
                if not self._skipped(last=last):
                    break
                continue
            if self._fresh:
                opened = self._opened(last=last)
                if opened is None:
                    break
                if opened:
                    continue
            end = self._find(last=last)
            if not end:
                break
            raw, self._text = self._text[:end], self._text[end:]
            self._at = 0
            self._fresh = raw.endswith("\n")
            if spoken := _speakable(raw):
                found.append(spoken)
        return found

    def _opened(self, *, last: bool) -> bool | None:
        """Say whether a code block begins here; None = that is not certain yet."""
        if match := _FENCE.match(self._text):
            self._fence, self._text = match[1], self._text[match.end() :]
            return True
        if not last and len(self._text) < _FENCE_CHARS and _MAYBE_FENCE.match(self._text):
            return None
        self._fresh = False
        return False

    def _skipped(self, *, last: bool) -> bool:
        """Drop a line of a code block; return False if it is not whole."""
        line, newline, rest = self._text.partition("\n")
        if not newline:
            # Only its first characters can end the block, and they may not be all here.
            self._text = "" if last else self._text[:_FENCE_CHARS]
            return False
        self._text = rest
        match = _FENCE.match(line)
        if match is not None and match[1] == self._fence and not self._fresh:
            self._fence, self._fresh = "", True
        else:
            self._fresh = False
        return True

    def _find(self, *, last: bool) -> int:
        """Return where the sentence ends; 0 = not in what is here."""
        text, size, at = self._text, len(self._text), self._at
        while at < size:
            if at >= MAX_CHARS:
                return _pause(text)
            char = text[at]
            if char == "\n":
                return at + 1
            if char not in _STOPS and char not in _CJK_STOPS:
                at += 1
                continue
            stops = _over(text, at + 1, _STOPS | _CJK_STOPS)
            close = _over(text, stops, _CLOSERS)
            space = close
            while space < size and space - close < _LOOK and text[space].isspace() and text[space] != "\n":
                space += 1
            if space == size and not last:
                self._at = at
                return 0
            if _ends(text, at, stops, close, space):
                return space
            at = stops
        self._at = at
        return size if last else 0


def _over(text: str, start: int, chars: frozenset[str]) -> int:
    """Return the end of a run of `chars`, so far as anybody looks."""
    at = start
    while at < len(text) and at - start < _LOOK and text[at] in chars:
        at += 1
    return at


def _ends(text: str, at: int, stops: int, close: int, space: int) -> bool:
    """Say whether the stop at `at` ends a sentence; behind the spaces after it `text[space]` is known or the end."""
    if any(char in _CJK_STOPS for char in text[at:stops]):
        return True
    if close < len(text) and not text[close].isspace():
        return False
    behind = text[space] if space < len(text) else ""
    if text[at:stops] != ".":
        # "Wait … what" goes on; "Really? yes" does not.
        return ("…" not in text[at:stops] and stops - at < 2) or not behind.islower()
    before = text[:at].rstrip()
    if _LEAD.fullmatch(before + ". "):
        return False  # the number of an item
    match = _WORD.search(before)
    word = match[0].lower() if match else ""
    if word in _TITLES or (word in _NUMBERED and behind.isdigit()):
        return False
    if len(word) == 1 and match is not None and match[0].isupper() and match.start() and word != "i":
        return False  # an initial
    return not behind.islower()


def _pause(text: str) -> int:
    """Return where a sentence that is too long is best cut."""
    for mark in ("; ", ": ", ", ", "\uff0c", "\u3001", " "):
        at = text.rfind(mark, MAX_CHARS // 2, MAX_CHARS)
        if at > 0:
            return at + len(mark)
    return MAX_CHARS


def _speakable(raw: str) -> str:
    """Return a sentence without what is only for the eye; nothing, if that is all there is."""
    text = _LINK.sub(r"\1", _LEAD.sub("", raw))
    text = _SPACES.sub(" ", _RULE.sub(" ", _MARKS.sub("", text))).strip()
    return text if any(char.isalnum() for char in text) else ""
