"""A whole answer on its way in: kept within its bound and charged to the process's memory budget."""

from __future__ import annotations

from typing import Final

from streamkit.flow.budget import Account
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["AnswerBody"]

#: How much of a refusal's body is worth keeping.
_REFUSAL_BYTES: Final = 64 * 1024


class AnswerBody:
    """Pieces of one answer.

    Args:
        backend: its name, for messages.
        limit_bytes: largest answer.
        answers: the account that it is charged to.
    """

    __slots__ = ("_answers", "_backend", "_bytes", "_limit_bytes", "_pieces")

    def __init__(self, backend: str, limit_bytes: int, answers: Account) -> None:
        self._backend = backend
        self._limit_bytes = limit_bytes
        self._answers = answers
        self._pieces: list[bytes] = []
        self._bytes = 0

    def add(self, data: bytes, *, refusal: bool = False) -> None:
        """Keep a piece; of a refusal its beginning is enough.

        Raises:
            HeadraceError: BACKEND_ERROR over the bound, OUT_OF_MEMORY over the budget.
        """
        if refusal:
            data = data[: _REFUSAL_BYTES - self._bytes]
        size = len(data)
        if self._bytes + size > self._limit_bytes:
            text = (
                f"The answer of the backend {self._backend} is larger than max_response_bytes = {self._limit_bytes}."
            )
            raise HeadraceError(Code.BACKEND_ERROR, text)
        if not self._answers.reserve(size):
            text = "The gateway's memory budget is used up. Try again shortly."
            raise HeadraceError(Code.OUT_OF_MEMORY, text)
        self._bytes += size
        self._pieces.append(data)

    def joined(self) -> bytes:
        """Return what was kept."""
        return b"".join(self._pieces)

    def drop(self) -> None:
        """Forget it, and give its memory back."""
        self._answers.release(self._bytes)
        self._bytes = 0
        self._pieces.clear()
