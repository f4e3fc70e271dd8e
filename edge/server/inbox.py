"""What is here of a client's message before it is whole: bounded in time, charged to the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.frames import CloseCode, Frame

from streamkit.flow.budget import Account

__all__ = ["Inbox"]


class Inbox:
    """Puts fragments together, and holds a client to the time that a message may take.

    Args:
        loop: of its timer.
        message_s: a message must be whole so long after its first byte.
        account: charged with half frames and with fragments.
        fail: called with a close code and a reason when the client must go.
    """

    __slots__ = ("_account", "_due", "_fail", "_fragments", "_loop", "_message_s", "held_bytes")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, message_s: float, account: Account, fail: Callable[[int, str], None]
    ) -> None:
        self._loop = loop
        self._message_s = message_s
        self._account = account
        self._fail: Callable[[int, str], None] | None = fail
        self._fragments: list[bytes] = []
        self._due: asyncio.TimerHandle | None = None
        #: Bytes read and not yet given on as a message.
        self.held_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Bytes were read.

        The library's buffer has them already, so a refusal of the budget ends the connection.
        """
        self.held_bytes += size_bytes
        if not self._account.reserve(size_bytes):
            self.held_bytes -= size_bytes
            self._end(CloseCode.TRY_AGAIN_LATER, "the gateway's memory budget is used up")

    def take(self, frame: Frame) -> bytes | None:
        """Take one whole data frame; return the message that it completes."""
        data = bytes(frame.data)
        if not frame.fin:
            self._fragments.append(data)
            self._let_go(_wire_bytes(frame) - len(data))
            return None
        whole = b"".join((*self._fragments, data)) if self._fragments else data
        self._fragments.clear()
        self._let_go(_wire_bytes(frame) + len(whole) - len(data))
        return whole

    def drop(self, frame: Frame) -> None:
        """A frame that is no message is over."""
        self._let_go(_wire_bytes(frame))

    def watch(self) -> None:
        """Look after each read: time runs for what is not whole, and for nothing else."""
        if not self.held_bytes:
            if self._due is not None:
                self._due.cancel()
                self._due = None
        elif self._due is None and self._fail is not None:
            self._due = self._loop.call_later(self._message_s, self._too_slow)

    def close(self) -> None:
        """Give everything back."""
        self._fail = None
        self._fragments.clear()
        self._let_go(self.held_bytes)
        self.watch()

    def _let_go(self, size_bytes: int) -> None:
        # A client may write a length in more bytes than it needs, so the sum is only as good as the client.
        size_bytes = min(size_bytes, self.held_bytes)
        self.held_bytes -= size_bytes
        self._account.release(size_bytes)

    def _too_slow(self) -> None:
        self._due = None
        self._end(4408, f"a message took longer than {self._message_s:g} s")

    def _end(self, code: int, reason: str) -> None:
        if self._fail is not None:
            self._fail(code, reason)


def _wire_bytes(frame: Frame) -> int:
    """Return how many bytes a client's frame took on the wire (RFC 6455 §5.2: a mask, and the shortest length)."""
    size = len(frame.data)
    return size + (6 if size < 126 else 8 if size < 65_536 else 14)
