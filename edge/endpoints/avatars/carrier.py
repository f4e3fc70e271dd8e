"""A viewer's data channel as what carries chat streams: frames are taken out of their WebSocket heads."""

from __future__ import annotations

from collections.abc import Callable

from edge.protocol.socket_out import messages
from edge.webrtc.channel import Channel

__all__ = ["ChannelCarrier"]


class ChannelCarrier:
    """Carries streams on a data channel.

    Args:
        channel: the viewer's.
        end: closes the viewer, which does not read.
    """

    def __init__(self, channel: Channel, end: Callable[[], None]) -> None:
        self._channel = channel
        self._end = end

    @property
    def cause(self) -> str:
        """How the viewer was lost; a datagram tells of no more."""
        return "client"

    @property
    def paused(self) -> bool:
        """It is over its high mark."""
        return self._channel.paused

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the viewer has not taken."""
        return self._channel.unsent

    def write(self, frames: bytes) -> bool:
        """Send the messages of whole frames."""
        for message in messages(frames):
            self._channel.send(message)
        return not self._channel.paused

    def abort(self, code: int) -> None:
        """The viewer takes nothing."""
        self._end()
