"""What a source of speech is to the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

__all__ = ["Engine"]


class Engine(Protocol):
    """Someone who makes sound of text."""

    @property
    def name(self) -> str:
        """What metrics call it."""
        ...

    @property
    def sample_rate(self) -> int:
        """Of what `speak` gives, in Hz; one channel."""
        ...

    async def start(self) -> None:
        """Get ready; what keeps it from that is told by `problem`."""
        ...

    def names(self) -> tuple[str, ...]:
        """Name its voices, as they are asked for."""
        ...

    def problem(self) -> str:
        """Say why it has no voices, in one sentence; empty = it has."""
        ...

    def speak(self, text: str, voice: str) -> AsyncGenerator[bytes, None]:
        """Give the samples of a speakable text, signed 16 bit little endian, in pieces of whole samples.

        Closing the generator stops the speech.

        Raises:
            streamkit.wire.errors.HeadraceError: it failed.
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...
