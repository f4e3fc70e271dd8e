"""The pseudo-model: pleasant text in which token i depends only on (seed, prompt, text so far).

The text is a chain of *segments* (a sentence, a list, a code block). Which segment comes next is read from a
CRC-32 of everything before it, so the state of the model *is* the text. A prefix is taken up again by walking it:

- where the prefix agrees with the segment chosen at a place, the walk steps over that segment;
- where it does not (somebody else wrote it), the walk skips to the next white space and tries again.

The walk never looks ahead of the prefix, so a longer prefix is walked exactly as a shorter one was, and a
continuation is what an uninterrupted run would have said. Every token has a text of at least one character.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from simulator.bank import BLOCKS, DULL, FOREIGN, OPENERS, SENTENCES, SLOTS
from simulator.tokens import Token, intern, pieces

__all__ = ["Walk", "model_key", "topic_of"]

_M64: Final = (1 << 64) - 1
_SLOT: Final = re.compile(r"([ \n]?)\{(\w+)(:C)?\}")
#: Coarser than the tokenizer's own pieces where that reads better: other alphabets in bites of four letters.
_NATIVE: Final = re.compile(r"[ \n]?[A-Za-z]+|\d{1,4}|[ \n]?[^\W\d_]{1,4}|[ \n]?[^\s\w]|\s|.")
_WORD: Final = re.compile(r"[^\W\d_][\w-]{3,23}")
_MIN_CHARS: Final = 900
_MORE_CHARS: Final = 1_100

Tokens = tuple[Token, ...]


def _native(text: str) -> Tokens:
    return tuple(intern(piece) for piece in _NATIVE.findall(text))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Segment:
    """One entry of the bank, cut into tokens once."""

    __slots__ = ("_parts",)

    def __init__(self, source: str) -> None:
        self._parts: list[tuple[str, tuple[Tokens, ...]]] = []
        at = 0
        for match in _SLOT.finditer(source):
            self._parts.append(("", (_native(source[at : match.start()]),)))
            space, name, capital = match.groups()
            if name == "topic":
                self._parts.append((space, ()))
            else:
                values = [_capital(value) if capital else value for value in SLOTS[name]]
                self._parts.append(("", tuple(_native(space + value) for value in values)))
            at = match.end()
        self._parts.append(("", (_native(source[at:]),)))

    def fill(self, dice: int, topic: dict[str, Tokens]) -> list[Token]:
        """Return its tokens, each slot filled by a throw of `dice` (64 bits)."""
        tokens: list[Token] = []
        for space, options in self._parts:
            if not options:
                tokens.extend(topic[space])
            elif len(options) == 1:
                tokens.extend(options[0])
            else:
                dice = (dice * 6364136223846793005 + 1442695040888963407) & _M64
                tokens.extend(options[(dice >> 33) % len(options)])
        return tokens


_OPENERS: Final = tuple(map(_Segment, OPENERS))
_SENTENCES: Final = tuple(map(_Segment, SENTENCES))
_BLOCKS: Final = tuple(map(_Segment, BLOCKS))
_FOREIGN: Final = tuple(map(_Segment, FOREIGN))


def model_key(seed: int, prompt: str, choice: int = 0) -> int:
    """Return the 32-bit key of (seed, prompt, choice index): with the text so far, the whole state."""
    return zlib.crc32(prompt.encode("utf-8", "replace"), zlib.crc32(b"%d/%d" % (seed, choice)))


def topic_of(question: str) -> str:
    """Return the word that an answer should speak of: the longest telling word of `question`, or "this"."""
    best = "this"
    for match in _WORD.finditer(question[:4000]):
        word = match[0].rstrip("-_")
        if len(word) >= max(len(best), 4) and word.lower() not in DULL:
            best = word
    return best


class Walk:
    """One answer, token by token.

    Args:
        key: from `model_key`.
        so_far: the part of the answer that exists already; the walk continues behind it.
        topic: a word or two for `{topic}`; part of the prompt, so it must be the same on a continuation.
        endless: never end by itself.

    Attributes:
        count: tokens so far, those of `so_far` included.
    """

    __slots__ = ("_at", "_chars", "_crc", "_key", "_native_end", "_tokens", "_topic", "count", "endless")

    def __init__(self, key: int, so_far: str = "", *, topic: str = "this", endless: bool = False) -> None:
        self._key = self._crc = key
        self._topic = {space: tuple(pieces(space + topic)) for space in ("", " ", "\n")}
        self._tokens: list[Token] = []
        self._at = 0
        self._chars = 0
        self._native_end = False
        self.count = 0
        self.endless = endless
        if so_far:
            self._walk(so_far)

    def next(self) -> Token | None:
        """Return the next token, or None where the model ends its answer."""
        at = self._at
        if at == len(self._tokens):
            if self._native_end and not self.endless and self._ends():
                return None
            self._tokens = self._segment()
            self._step("".join(token.text for token in self._tokens))
            at = 0
        self._at = at + 1
        self.count += 1
        return self._tokens[at]

    def _ends(self) -> bool:
        if self._chars < _MIN_CHARS + self._key % _MORE_CHARS:
            return False
        return bool(self._crc & 1)

    def _segment(self) -> list[Token]:
        """Return the segment that follows the text so far."""
        dice = ((self._crc ^ 0x5BD1E995) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & _M64
        dice ^= dice >> 29
        if self._chars == 0:
            bank = _OPENERS
        else:
            throw = (dice >> 7) % 100
            bank = _SENTENCES if throw < 78 else _BLOCKS if throw < 93 else _FOREIGN
        return bank[(dice >> 20) % len(bank)].fill(dice, self._topic)

    def _step(self, text: str) -> None:
        self._crc = zlib.crc32(text.encode("utf-8", "replace"), self._crc)
        self._chars += len(text)
        self._native_end = True

    def _walk(self, text: str) -> None:
        """Take up where `text` ends."""
        at, end = 0, len(text)
        while at < end:
            tokens = self._segment()
            segment = "".join(token.text for token in tokens)
            if text.startswith(segment, at):
                self._step(segment)
                self.count += len(tokens)
                at += len(segment)
            elif end - at < len(segment) and segment.startswith(text[at:]):
                self._enter(tokens, segment, end - at)
                return
            else:
                to = min((i for i in (text.find(" ", at + 1), text.find("\n", at + 1)) if i > 0), default=end)
                self._step(text[at:to])
                self._native_end = False
                self.count += len(pieces(text[at:to]))
                at = to

    def _enter(self, tokens: list[Token], segment: str, offset: int) -> None:
        """Stand inside a segment, `offset` characters in; a token cut in two gives its rest first."""
        self._step(segment)
        passed = 0
        for index, token in enumerate(tokens):
            if passed >= offset:
                self._tokens = tokens[index:]
                return
            passed += len(token.text)
            self.count += 1
            if passed > offset:
                self._tokens = [*pieces(token.text[offset - passed :]), *tokens[index + 1 :]]
                return
