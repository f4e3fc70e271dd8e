"""The simulator's tokenizer: reversible, stateless, about four characters a token.

0 ...              special tokens (3 `<|im_start|>`, 4 `<|im_end|>`, as in the captures)
100 ...            the words of the pseudo-model's own vocabulary
65,536 ...         one code point
268,435,456 ...    up to four ASCII characters, seven bits each
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["IM_END", "IM_START", "Token", "count", "decode", "encode", "intern", "pieces", "strings"]

IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"
_SPECIAL: Final = {3: IM_START, 4: IM_END}
_SPECIAL_IDS: Final = {text: number for number, text in _SPECIAL.items()}
_SPECIAL_SPLIT: Final = re.compile(r"(<\|im_start\|>|<\|im_end\|>)")
#: A word with the one space or line break before it, a run of digits, a sign, or white space.
_PIECE: Final = re.compile(r"[ \n]?[A-Za-z]+|\d{1,4}|[ \n]?[^\sA-Za-z\d]|\s")
_FIRST_WORD: Final = 100
_POINT: Final = 1 << 16
_ASCII: Final = 1 << 28


class Token(NamedTuple):
    """One token in every form that the wire needs."""

    text: str
    #: The text as the inside of a JSON string, in UTF-8: what a chunk is built around.
    json: bytes
    id: int


_words: Final[dict[str, Token]] = {}
_by_id: Final[dict[int, Token]] = {}


def intern(text: str) -> Token:
    """Return the vocabulary's token for `text`, a new one if need be.

    Only the pseudo-model's own modules call it, at import, so the ids are the same in every process.
    """
    token = _words.get(text)
    if token is None:
        token = Token(text, escape(text), _FIRST_WORD + len(_words))
        _words[text] = _by_id[token.id] = token
    return token


def escape(text: str) -> bytes:
    """Return `text` as the inside of a JSON string: raw UTF-8, as vLLM writes it (a01_stream.resp)."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace")


def pieces(text: str) -> list[Token]:
    """Return `text` as tokens; their texts joined are `text`."""
    tokens: list[Token] = []
    for piece in _PIECE.findall(text):
        word = _words.get(piece)
        if word is not None:
            tokens.append(word)
        elif piece.isascii() and "\0" not in piece:
            tokens.extend(_foreign(piece[i : i + 4]) for i in range(0, len(piece), 4))
        else:
            tokens.extend(_words.get(point) or _foreign(point) for point in piece)
    return tokens


def encode(text: str) -> list[int]:
    """Return the ids of `text`; the chat template's marks are single tokens."""
    if "<|im_" not in text:
        return [token.id for token in pieces(text)]
    ids: list[int] = []
    for part in _SPECIAL_SPLIT.split(text):
        if part in _SPECIAL_IDS:
            ids.append(_SPECIAL_IDS[part])
        else:
            ids.extend(token.id for token in pieces(part))
    return ids


def count(text: str) -> int:
    """Return how many tokens `text` has."""
    return len(encode(text))


def decode(ids: Iterable[int]) -> str:
    """Return the text of `ids`; an id that stands for nothing becomes U+FFFD."""
    return "".join(map(_text, ids))


def strings(ids: Sequence[int]) -> list[str]:
    """Return each token as byte-level vocabularies print it: Ċ line break, Ġ space (g15_tokenize_chat)."""
    return [_text(number).replace("\n", "Ċ").replace(" ", "Ġ") for number in ids]


def _foreign(text: str) -> Token:
    if len(text) == 1 and (text > "\x7f" or text == "\0"):
        return Token(text, escape(text), _POINT + ord(text))
    packed = 0
    for character in text:
        packed = packed << 7 | ord(character)
    return Token(text, escape(text), _ASCII + packed)


def _text(number: int) -> str:
    if number in _by_id:
        return _by_id[number].text
    if number in _SPECIAL:
        return _SPECIAL[number]
    if number >= _ASCII:
        packed = number - _ASCII
        text = ""
        while packed:
            text = chr(packed & 0x7F) + text
            packed >>= 7
        return text
    point = number - _POINT
    if 0 <= point < 0x110000 and not 0xD800 <= point < 0xE000:
        return chr(point)
    return "\N{REPLACEMENT CHARACTER}"
