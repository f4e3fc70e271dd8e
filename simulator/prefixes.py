"""The prefix cache: which blocks of a prompt have been computed before."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["PrefixCache"]


class PrefixCache:
    """Remembers prompt blocks, the least recently used ones going first.

    A block is keyed by everything before it, so only a common *beginning* hits.

    Args:
        blocks: how many are remembered.
        block_tokens: tokens in one.
    """

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self._blocks = blocks
        self._block_tokens = block_tokens
        self._known: OrderedDict[int, None] = OrderedDict()

    def hits(self, text: str, tokens: int) -> int:
        """Return how many of the prompt's `tokens` are known, and remember its blocks.

        The last token is always computed, so a whole prompt never hits.
        """
        size = self._block_tokens
        span = max(1, len(text) * size // max(tokens, 1))
        hits, hitting, key = 0, True, 0
        for at in range((tokens - 1) // size):
            key = hash((key, text[at * span : (at + 1) * span]))
            hitting = hitting and key in self._known
            hits += hitting
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > self._blocks:
            self._known.popitem(last=False)
        return hits * size

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
