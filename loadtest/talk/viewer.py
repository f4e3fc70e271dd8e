"""A viewer that decodes what comes, and knows when each picture and each sound arrived.

Everything is judged by what was decoded, whatever the edge says of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Self

import av
import httpx
import numpy as np
from aiortc import RTCPeerConnection
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtp import RtpPacket

from loadtest.viewers.blind import begun, loopback, offered

__all__ = ["Media", "Viewer", "ViewerError", "until"]

_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.002
#: The middle of the mouth of `reference`, in parts of the picture's height and width: lips where it is shut, dark
#: where it is open.
_MOUTH: Final = (slice(0.57, 0.62), slice(0.48, 0.52))


class ViewerError(Exception):
    """A conversation did not go as it should; the message says what is missing."""


async def until(found: Callable[[], bool], what: str, within_s: float = _WITHIN_S) -> None:
    """Wait until something is there.

    Raises:
        ViewerError: it is not, in time.
    """
    deadline = monotonic() + within_s
    while not found():
        if monotonic() > deadline:
            raise ViewerError(f"{what} did not come within {within_s:g} s")
        await asyncio.sleep(_POLL_S)


class Media:
    """One track of a viewer.

    Args:
        level: of a decoded frame; what is judged by.
    """

    def __init__(self, level: Callable[[Any], float]) -> None:
        self._level = level
        #: When the last packet of a stamp arrived, in monotonic seconds.
        self._came: dict[int, float] = {}
        self._receiver: RTCRtpReceiver | None = None
        self._decoded: list[tuple[int, float]] = []

    def tap(self, receiver: RTCRtpReceiver) -> None:
        """Stamp what a receiver takes, before it is connected."""
        self._receiver = receiver
        take = receiver._handle_rtp_packet  # noqa: SLF001  the library offers no other place

        async def taken(packet: RtpPacket, arrival_time_ms: int) -> None:
            self._came[packet.timestamp] = monotonic()
            await take(packet, arrival_time_ms)

        receiver._handle_rtp_packet = taken  # type: ignore[method-assign]  # noqa: SLF001

    async def decode(self, track: MediaStreamTrack) -> None:
        """Take what is decoded until the track ends."""
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                self._decoded.append((int(frame.pts or 0), self._level(frame)))

    def found(self, since_s: float = 0.0) -> list[tuple[float, float]]:
        """Return when each decoded frame arrived, and its level, of those that arrived since then."""
        if not self._decoded or self._receiver is None:
            return []
        # The receiver counts from its first stamp.
        origin = self._receiver._RTCRtpReceiver__timestamp_mapper._origin  # type: ignore[attr-defined]  # noqa: SLF001
        arrivals = ((self._came.get((origin + pts) % 2**32), level) for pts, level in self._decoded)
        return [(at_s, level) for at_s, level in arrivals if at_s is not None and at_s >= since_s]


class Viewer:
    """An async context manager: one viewer, from its offer to its leave.

    Args:
        edge_url: of the edge.
        avatar: that it watches.

    Raises:
        httpx.HTTPError: on entry, when it is refused.
        ViewerError: on entry, when no picture comes.
    """

    def __init__(self, edge_url: str, avatar: str) -> None:
        self._whep = f"{edge_url}/v1/avatars/{avatar}/whep"
        self._location = ""
        self._peer: RTCPeerConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._send: Callable[[str], None] | None = None
        #: The darker the mouth, the wider it is open: 0 to 255.
        self.pictures = Media(_darkness)
        #: RMS of 20 ms, 0 to 1.
        self.sounds = Media(_loudness)
        #: When each message of the edge came, and it.
        self.heard: list[tuple[float, dict[str, Any]]] = []
        #: When the answer to the offer was there.
        self.answered_s = 0.0

    async def __aenter__(self) -> Self:
        loopback()
        self._peer = peer = begun()
        channel = peer.createDataChannel("headrace")
        channel.on("message", lambda text: self.heard.append((monotonic(), json.loads(text))))
        try:
            self._watch(peer)
            async with httpx.AsyncClient(timeout=_WITHIN_S, event_hooks={"response": [self._answered]}) as http:
                answer = await offered(peer, http, self._whep)
            self._location = str(httpx.URL(self._whep).join(answer.headers["location"]))
            self._send = channel.send
            await until(lambda: channel.readyState == "open", "an open data channel")
            await until(lambda: bool(self.pictures.found()), "the first picture")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._location:
            async with httpx.AsyncClient(timeout=_WITHIN_S) as http:
                await http.delete(self._location)
        if self._peer is not None:
            await self._peer.close()
        await asyncio.gather(*self._tasks)

    def say(self, **message: object) -> None:
        """Send a message on the data channel."""
        if self._send is not None:
            self._send(json.dumps(message))

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        """Return the messages of one kind, each with when it came."""
        return [(at_s, message) for at_s, message in self.heard if message["type"] == kind]

    async def _answered(self, _: httpx.Response) -> None:
        self.answered_s = monotonic()

    def _watch(self, peer: RTCPeerConnection) -> None:
        kinds = {"audio": self.sounds, "video": self.pictures}
        for transceiver in peer.getTransceivers():
            kinds[transceiver.kind].tap(transceiver.receiver)
        peer.on("track", lambda track: self._tasks.append(asyncio.create_task(kinds[track.kind].decode(track))))


def _darkness(frame: av.VideoFrame) -> float:
    rows, columns = (
        slice(round(part.start * side), round(part.stop * side))
        for part, side in zip(_MOUTH, (frame.height, frame.width), strict=True)
    )
    return 255.0 - float(frame.to_ndarray(format="gray")[rows, columns].mean())


def _loudness(frame: av.AudioFrame) -> float:
    samples = frame.to_ndarray().astype(np.float64) / 32768
    return float(np.sqrt((samples**2).mean()))
