"""What every reader of a foreign format raises when the engine does not keep to it."""

from __future__ import annotations

from streamkit.wire.events import Batch

__all__ = ["MalformedError"]


class MalformedError(Exception):
    """The engine's answer is not of its own format.

    Args:
        what: what came, without its text: clients see it.
        before: events that were whole before it, in the same read.
    """

    def __init__(self, what: str, before: Batch | None = None) -> None:
        super().__init__(what)
        self.before = before
