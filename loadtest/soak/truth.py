"""The truth about the answers: what each must be, what became of them, and those that are wrong and do not say so."""

from __future__ import annotations

from collections import Counter

__all__ = ["Truth"]


class Truth:
    """Counts outcomes and collects lies."""

    def __init__(self) -> None:
        #: The text that every whole answer has.
        self.expected = ""
        #: Outcomes by kind, such as `stream: complete`.
        self.seen: Counter[str] = Counter()
        #: What must never be, in words.
        self.lies: list[str] = []

    def lie(self, kind: str, what: str) -> str:
        """Note what must not be; return the outcome."""
        self.lies.append(f"{kind}: {what}")
        return "wrong"

    def cut_short(self, kind: str, text: str, outcome: str) -> str:
        """Judge an answer that says it is not whole; return the outcome."""
        if not self.expected.startswith(text):
            return self.lie(kind, f"the text before the end ({outcome}) is not the answer's beginning")
        return outcome

    def whole(self, kind: str, text: str, *, ended: bool = True, how: str = "") -> str:
        """Judge an answer that claims to be whole; return the outcome.

        Args:
            kind: of load.
            text: of the answer.
            ended: it said so, and its transport did.
            how: the transport ended.
        """
        if text != self.expected or not ended:
            return self.lie(kind, f"{len(text)} of {len(self.expected)} characters, {how or 'done'}, no error")
        return "complete"
