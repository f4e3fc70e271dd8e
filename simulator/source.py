"""Where a choice's tokens come from: the pseudo-model, a JSON document, or padding and stamps for measurements."""

from __future__ import annotations

import time
from collections.abc import Callable

from simulator.directives import Directives
from simulator.request import Generate
from simulator.schema import value_tokens
from simulator.template import Prompt
from simulator.text import Walk, model_key
from simulator.tokens import Token, escape

__all__ = ["STAMP_CHARS", "Source", "make_source"]

#: 19 digits of nanoseconds and a space.
STAMP_CHARS = 20


class Source:
    """Tokens of one choice.

    Attributes:
        next: returns the next token, or None at the model's own end.
        had: tokens of the answer that exist already (a prefill).
        walk: the pseudo-model, where it is the source.
    """

    __slots__ = ("had", "next", "walk")

    def __init__(self, next_: Callable[[], Token | None], had: int, walk: Walk | None = None) -> None:
        self.next = next_
        self.had = had
        self.walk = walk


def make_source(request: Generate, directives: Directives, prompt: Prompt, choice: int, seed: int) -> Source:
    """Return the tokens of choice number `choice`.

    Raises:
        EngineError: the request's schema cannot be followed.
    """
    schema = request.schema if request.tool is None else request.tool.schema
    if schema is not None and schema is not False:
        document = value_tokens(schema, model_key(seed, prompt.text, choice))
        rest = _after(document, prompt.so_far if request.chat and request.tool is None else "")
        tokens = iter(rest)
        return Source(lambda: next(tokens, None), len(document) - len(rest))
    if directives.stamp or directives.bytes:
        return _measured(directives, prompt.so_far if request.chat else "")
    walk = Walk(
        model_key(seed, prompt.text, choice),
        prompt.so_far,
        topic=prompt.topic,
        endless=request.ignore_eos or directives.tokens is not None or request.min_tokens > 0,
    )
    return Source(walk.next, walk.count if request.chat else 0, walk)


def _after(document: list[Token], so_far: str) -> list[Token]:
    """Return what is left of `document` behind a prefill that agrees with it; all of it behind any other."""
    text = ""
    for index, token in enumerate(document):
        if text == so_far:
            return document[index:]
        text += token.text
    return [] if text == so_far else document


def _measured(directives: Directives, so_far: str) -> Source:
    """Tokens of a fixed size: their number, or the moment of their sending, and dots."""
    size = max(directives.bytes or 0, STAMP_CHARS if directives.stamp else 1)
    had = at = len(so_far) // size

    def stamped() -> Token:
        text = f"{time.monotonic_ns():019d} ".ljust(size, ".")
        return Token(text, text.encode(), 0)

    def numbered() -> Token:
        nonlocal at
        at += 1
        text = f"{at} ".ljust(size, ".")[:size]
        return Token(text, escape(text), 0)

    return Source(stamped if directives.stamp else numbered, had)
