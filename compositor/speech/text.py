"""Text as it is written in chats, made fit to be spoken."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final
from urllib.parse import urlsplit

__all__ = ["MAX_CHARACTERS", "pieces", "speakable"]

#: Of one text that is asked for.
MAX_CHARACTERS: Final = 4_000
_FENCE: Final = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^[ ]{0,3}\1[`~]*[ ]*$|\Z)", re.DOTALL | re.MULTILINE)
_IMAGE_OR_LINK: Final = re.compile(r"!?\[([^\[\]\n]*)\]\((?:[^()\n]|\([^()\n]*\))*\)")
_REFERENCE: Final = re.compile(r"\[([^\[\]\n]{1,500})\]\[[^\[\]\n]{0,200}\]")
_ADDRESS: Final = re.compile(r"<?\b(?:https?://|www\.)[^\s<>\"'`]+>?", re.IGNORECASE)
_TAG: Final = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")
_LEAD: Final = re.compile(r"^[ \t]*(?:>[ \t]*)*(?:#{1,6}[ \t]+|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?)?", re.MULTILINE)
_RULE: Final = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$|^(?=[^\n]*--)[ \t:|-]+$", re.MULTILINE)
_STARS: Final = re.compile(r"\*{1,3}|~~|`+|(?<!\w)_{1,3}(?=\S)|(?<=\S)_{1,3}(?!\w)")
#: A star between numbers is no emphasis.
_TIMES: Final = re.compile(r"(?<=\d)[ ]?\*[ ]?(?=\d)")
#: What a sentence ends with, where the next one begins.
_SENTENCE: Final = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|(?<=[。！？])|\n+")  # noqa: RUF001  Chinese full stops
_SILENT: Final = frozenset({"Cc", "So", "Sk", "Cs", "Co", "Cn", "Cf"})


def speakable(text: str) -> str:
    """Return what there is to say of `text`, one paragraph or list item a line; empty = nothing.

    Fenced code is left out, inline code is read. Links and images become their words, bare addresses their host.
    Headings, list marks, quotes, emphasis, table lines and tags go; table cells are divided by commas. Emoji, other
    pictures and control characters go; a heading or item without a full stop gets one, so that it is not run together
    with what follows.
    """
    text = _FENCE.sub("\n", text.replace("\r\n", "\n"))
    text = _IMAGE_OR_LINK.sub(r"\1", text)
    text = _REFERENCE.sub(r"\1", text)
    text = _ADDRESS.sub(_host, text)
    text = html.unescape(_TAG.sub(" ", text))
    text = _RULE.sub("", text)
    text = _LEAD.sub("", text)
    text = _TIMES.sub(" times ", text)
    text = _STARS.sub("", text)
    lines = (_line(line) for line in text.split("\n"))
    return "\n".join(line for line in lines if any(character.isalnum() for character in line))


def pieces(text: str, limit: int) -> list[str]:
    """Return `text` in sentences of at most `limit` characters; longer ones are cut between words.

    Args:
        text: speakable.
        limit: above 0.
    """
    found: list[str] = []
    for sentence in _SENTENCE.split(text):
        rest = sentence.strip()
        while len(rest) > limit:
            cut = max(rest.rfind(mark, 0, limit) for mark in (", ", "; ", ": "))
            cut = cut + 1 if cut > limit // 2 else rest.rfind(" ", 0, limit + 1)
            cut = cut if cut > 0 else limit
            found.append(rest[:cut].strip())
            rest = rest[cut:].strip()
        if rest:
            found.append(rest)
    return found


def _line(line: str) -> str:
    if line.count("|") > 1 or line.strip().startswith("|"):
        line = ", ".join(cell.strip() for cell in line.split("|") if cell.strip())
    kept = "".join(map(_kept, line))
    words = " ".join(kept.split())
    words = re.sub(r"\s+([,.;:!?])", r"\1", words)
    return words + "." if words and words[-1].isalnum() else words


def _kept(character: str) -> str:
    """Return what stays of a character: itself, a gap where a picture was, or nothing of what is never seen."""
    if character.isascii():
        return character if character.isprintable() else " "
    category = unicodedata.category(character)
    # Degrees and the like are words to a voice; Persian words are held together by the joiner.
    if character in "°©®™\u200c" or (category not in _SILENT and not _pictured(character)):
        return character
    return "" if category == "Cf" else " "


def _pictured(character: str) -> bool:
    """Say whether a character only makes another one a picture: variation selectors, keycaps."""
    return 0xFE00 <= ord(character) <= 0xFE0F or ord(character) == 0x20E3


def _host(found: re.Match[str]) -> str:
    address = found[0].strip("<>")
    stop = re.search(r"[.,;:!?)\]]+$", address)
    end = stop[0] if stop else ""
    address = address[: len(address) - len(end)]
    try:
        host = urlsplit(address if "://" in address else f"https://{address}").hostname or ""
    except ValueError:
        host = ""
    return host.removeprefix("www.") + end.replace(")", "").replace("]", "")
