"""Encoded media for aiortc's senders: packets pass through, nothing is decoded or encoded here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from edge.avatars.backlog import Backlog
from edge.avatars.tick import Tick

if TYPE_CHECKING:
    Packet: TypeAlias = av.Packet[Any]

__all__ = ["Passing", "audio_of", "video_of"]

_VIDEO: Final = Fraction(1, 90_000)
_AUDIO: Final = Fraction(1, 48_000)
_RATES: Final = {"video": _VIDEO.denominator, "audio": _AUDIO.denominator}


def _nobody(_media_s: float) -> None:
    return


class Passing(MediaStreamTrack):
    """A track whose packets come from elsewhere.

    Args:
        kind: `video` or `audio`.
        take: returns the next packet, or None while there is none.
    """

    def __init__(self, kind: str, take: Callable[[], Packet | None]) -> None:
        super().__init__()
        self.kind = kind
        #: Told of each packet once it was sent: its time, in s.
        self.on_sent: Callable[[float], None] = _nobody
        self._take = take
        self._rate = _RATES[kind]
        self._given: int | None = None
        self._news = asyncio.Event()

    def wake(self) -> None:
        """A packet may be there."""
        self._news.set()

    async def recv(self) -> Packet:
        """Wait for the next packet."""
        if self._given is not None:
            # A sender asks for the next one when it has sent the one before.
            self.on_sent(self._given / self._rate)
            self._given = None
        while self.readyState == "live":
            packet = self._take()
            if packet is not None:
                self._given = packet.pts
                return packet
            self._news.clear()
            await self._news.wait()
        raise MediaStreamError

    def stop(self) -> None:
        """End it."""
        super().stop()
        self._news.set()


def video_of(backlog: Backlog) -> Packet | None:
    """Return the next picture as a packet, made once for all viewers of its codec."""
    taken = backlog.video()
    if taken is None:
        return None
    tick, video = taken
    return _made(tick, f"video-{video.codec}", video.data, tick.unit.pts, _VIDEO)


def audio_of(backlog: Backlog) -> Packet | None:
    """Return the next packet of sound."""
    taken = backlog.audio()
    if taken is None:
        return None
    tick, audio = taken
    return _made(tick, f"audio-{audio.pts}", audio.data, audio.pts, _AUDIO)


def _made(tick: Tick, key: str, data: bytes, pts: int, base: Fraction) -> Packet:
    """Return the tick's packet of that name, which its first viewer makes for all."""
    made = tick.made.get(key)
    if isinstance(made, av.Packet):
        return made
    packet: Packet = av.Packet(data)
    packet.pts = packet.dts = pts
    packet.time_base = base
    tick.made[key] = packet
    return packet
