"""What clients reach where it is not HTTP: the seam through which `serve` runs a gRPC server like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

__all__ = ["Front"]


class Front(Protocol):
    """A server of its own kind, from its address to its drain."""

    #: The address under which it can be reached from this machine; known once bound.
    url: str

    def bind(self) -> None:
        """Take the address, within the event loop.

        Raises:
            BindError: it is taken or cannot be used.
        """

    async def start(self) -> bool:
        """Start to answer, and say whether it does."""
        ...

    async def ended(self) -> None:
        """Return when the server ended by itself, or raise what ended it."""

    async def stop(self, idle: Callable[[], Awaitable[None]]) -> None:
        """Stop accepting, let calls finish until the deadline, cut the rest.

        Args:
            idle: returns when the work that no connection shows has finished, too.
        """
