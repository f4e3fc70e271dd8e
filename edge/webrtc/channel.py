"""The data channel of one viewer: JSON messages, bounded in size and in what is unsent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

from edge.protocol.socket_out import error_message
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Channel"]

_LOG = logging.getLogger("headrace.edge.webrtc")
#: Messages from before the channel opened: what happened in the meantime.
_EARLY: Final = 64
_FAREWELL_S: Final = 0.2
#: Above the high mark only messages of ours are dropped, up to this many times it.
_CUT: Final = 4


def _nothing(*_: object) -> None:
    return


class Channel:
    """At most one open channel.

    Args:
        message_bytes: largest message of the viewer.
        unsent_bytes: high mark; the low mark is a quarter.
        on_message: takes a message.
        on_resume: it is under its low mark again.
    """

    def __init__(
        self,
        message_bytes: int,
        unsent_bytes: int,
        *,
        on_message: Callable[[bytes], None],
        on_resume: Callable[[], None],
    ) -> None:
        self._message_bytes = message_bytes
        self._unsent_bytes = unsent_bytes
        self._on_message = on_message
        self._on_resume = on_resume
        self._heard: Callable[[], None] | None = None
        self._channel: RTCDataChannel | None = None
        self._early: list[bytes] = []
        #: Messages that were dropped because the viewer does not read.
        self.dropped = 0

    def take(self, channel: RTCDataChannel, heard: Callable[[], None]) -> bool:
        """Use a channel that the viewer opened; False = there is one already."""
        if self._channel is not None:
            return False
        self._channel = channel
        self._heard = heard
        channel.bufferedAmountLowThreshold = self._unsent_bytes // 4
        channel.on("message", self._got)
        channel.on("bufferedamountlow", self._on_resume)
        heard()
        for message in self._early:
            self.send(message)
        self._early.clear()
        return True

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._channel is None else int(self._channel.bufferedAmount)

    @property
    def paused(self) -> bool:
        """It is over its high mark."""
        return self.unsent > self._unsent_bytes

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until there is a channel; drop it if the viewer does not read."""
        channel = self._channel
        if channel is None:
            self._early = [*self._early, message][-_EARLY:]
            return
        if channel.readyState != "open" or self.unsent > _CUT * self._unsent_bytes:
            self.dropped += 1
            return
        try:
            channel.send(message.decode(errors="replace"))
        except (InvalidStateError, ValueError, ConnectionError) as exc:
            self.dropped += 1
            _LOG.debug("a message could not be sent: %s", exc)

    def forget(self) -> None:
        """It is closed: let go of everybody."""
        channel, self._channel = self._channel, None
        if channel is not None:
            vars(channel).clear()
        self._heard = None
        self._on_message = self._on_resume = _nothing

    async def farewell(self, error: HeadraceError) -> None:
        """Say why it ends, and give it a moment."""
        self.send(error_message(error))
        until = asyncio.get_running_loop().time() + _FAREWELL_S
        while self.unsent and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110  nobody tells of that
            await asyncio.sleep(_FAREWELL_S / 10)

    def _got(self, message: str | bytes) -> None:
        if self._heard is not None:
            self._heard()
        if isinstance(message, bytes):
            text = "Messages are JSON in text; this one is binary."
            self.send(error_message(HeadraceError(Code.UNSUPPORTED_TYPE, text, param="message")))
            return
        data = message.encode()
        if len(data) > self._message_bytes:
            text = f"The message has {len(data)} bytes; the limit is message_bytes = {self._message_bytes}."
            self.send(error_message(HeadraceError(Code.TOO_LARGE, text, param="message")))
            return
        self._on_message(data)
