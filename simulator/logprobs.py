"""Log probabilities that look real: the pseudo-model has none, so they are read from the token's own bytes."""

from __future__ import annotations

import zlib
from typing import Any, Final

from simulator.tokens import Token, intern

__all__ = ["chat_logprobs", "prompt_logprobs", "text_logprobs"]

#: What is offered beside the chosen token.
_OTHERS: Final = tuple(intern(f" {word}") for word in (
    "the", "a", "and", "of", "to", "in", "it", "is", "that", "was", "for", "on", "with", "as", "by", "at", "from",
    "or", "an", "be", "this",
))  # fmt: skip


def chat_logprobs(tokens: list[Token], alternatives: int) -> list[dict[str, Any]]:
    """Return `logprobs.content` of a chat: the chosen token first among `top_logprobs` (a05_stream_logprobs)."""
    items = []
    for token in tokens:
        top = [
            {"token": text, "logprob": value, "bytes": list(text.encode())}
            for text, value in _top(token, alternatives)
        ]
        chosen = {"token": token.text, "logprob": _logprob(token), "bytes": list(token.text.encode())}
        items.append({**chosen, "top_logprobs": top})
    return items


def text_logprobs(
    tokens: list[Token], alternatives: int, offset: int, *, first_of_prompt: bool = False
) -> dict[str, Any]:
    """Return `logprobs` of a completion (b09_completions_token_ids_echo_logprobs).

    Args:
        tokens: the tokens covered.
        alternatives: how many beside the chosen one.
        offset: characters before the first.
        first_of_prompt: the first token opens the prompt, so nothing is known of it.
    """
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    values: list[float | None] = [_logprob(token) for token in tokens]
    top: list[dict[str, float] | None] = [dict(_top(token, alternatives + 1)) for token in tokens]
    if first_of_prompt and tokens:
        values[0] = top[0] = None
    return {
        "text_offset": offsets,
        "token_logprobs": values,
        "tokens": [token.text for token in tokens],
        "top_logprobs": top,
    }


def prompt_logprobs(tokens: list[Token], alternatives: int) -> list[dict[str, Any] | None]:
    """Return a completion's `prompt_logprobs`, keyed by token id (b09)."""
    listed: list[dict[str, Any] | None] = [None]
    for token in tokens[1:]:
        entry: dict[str, Any] = {}
        others = (token, *_OTHERS)[: alternatives + 1]
        for rank, other in enumerate(others, 1):
            value = _logprob(token) - (rank - 1) * 0.5
            entry[str(other.id)] = {"logprob": value, "rank": rank, "decoded_token": other.text}
        listed.append(entry)
    return listed


def _top(token: Token, count: int) -> list[tuple[str, float]]:
    value = _logprob(token)
    pairs = [(token.text, value)]
    for other in _OTHERS:
        if len(pairs) >= count:
            break
        if other.text != token.text:
            value -= 0.25
            pairs.append((other.text, value))
    return pairs[:count]


def _logprob(token: Token) -> float:
    return -(0.01 + (zlib.crc32(token.json) & 0xFFFF) / 0x8000)
