"""One viewer of a face that has it speak without end, and stamps what comes: it decodes and draws nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from time import monotonic
from typing import Any, Final, Self

import httpx
from aiortc import RTCPeerConnection, RTCRtpReceiver
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket, RtpPacket

from loadtest.soak.lips import Lips, Track
from loadtest.viewers.blind import begun, blind, offered

__all__ = ["Listener", "ListenerError", "tap"]

_CONNECT_S: Final = 30.0
#: Sentences that are said and not finished: the voice is never without the next one.
_AHEAD: Final = 3
_SENTENCES: Final = (
    "Listen!",
    "The river came down from the hills, cold and quick, and the mill stood where it bent towards the sea.",
    "Nobody had counted the stones of the weir, but everybody knew which of them were loose.",
    "In spring the water was brown, and the wheel turned so fast that the floor of the loft shook.",
    "Are you sure that the gate was shut last night?",
    "It was; the miller himself had turned the handle, eleven times, as he did on every evening of the year.",
    "By the end of August 1,200 sacks had gone down to the harbour.",
    "There it is again, a little lower than before, like somebody humming in another room.",
)


class ListenerError(Exception):
    """The viewer could not stay: the message is why."""


class Listener:
    """An async context manager: a viewer, from its offer to its leave.

    Args:
        edge_url: of the edge.
        avatar: that it watches.

    Raises:
        ListenerError: on entry, when it is not connected within half a minute.
    """

    def __init__(self, edge_url: str, avatar: str) -> None:
        self._whep = f"{edge_url}/v1/avatars/{avatar}/whep"
        self._peer: RTCPeerConnection | None = None
        self._location = ""
        self._left = False
        self._sentences = cycle(_SENTENCES)
        self._pending = 0
        #: What came since it was set.
        self.lips = Lips()
        #: Messages of the edge, by type; of each sentence there is one `playback.finished`, or `playback.failed`.
        self.told: Counter[str] = Counter()
        #: Done once the connection ends by itself, or an error is told; its result is why.
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        blind()
        self._peer = peer = begun()
        channel = peer.createDataChannel("headrace")
        channel.on("message", lambda text: self._heard(json.loads(text), channel.send))
        channel.on("open", lambda: self._say(channel.send))
        peer.on("connectionstatechange", self._changed)
        try:
            async with httpx.AsyncClient(timeout=_CONNECT_S) as http, asyncio.timeout(_CONNECT_S):
                answer = await offered(peer, http, self._whep)
                self._location = str(httpx.URL(self._whep).join(answer.headers["location"]))
                for transceiver in peer.getTransceivers():
                    tap(transceiver.receiver, self._track(sound=transceiver.kind == "audio"))
                while not self.told["playback.finished"]:
                    self._live()
                    await asyncio.sleep(0.05)
        except (httpx.HTTPError, TimeoutError) as error:
            await self.__aexit__()
            raise ListenerError(f"no face spoke within {_CONNECT_S:g} s ({error!r})") from None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave, as a page does."""
        self._left = True
        if self._location:
            async with httpx.AsyncClient(timeout=_CONNECT_S) as http:
                await http.delete(self._location)
        if self._peer is not None:
            await self._peer.close()
        self.lost.cancel()

    def begin(self) -> None:
        """Forget what came so far: the first mouths of a model are slow, and the first units old."""
        self.lips = Lips()

    # Inside

    def _track(self, *, sound: bool) -> Callable[[], Track]:
        return lambda: self.lips.sound if sound else self.lips.picture

    def _live(self) -> None:
        if self.lost.done():
            raise ListenerError(self.lost.result())

    def _changed(self) -> None:
        state = self._peer.connectionState if self._peer is not None else "closed"
        if state in ("failed", "closed"):
            self._lost(f"the connection is {state}")

    def _lost(self, why: str) -> None:
        if not self._left and not self.lost.done():
            self.lost.set_result(why)

    def _heard(self, message: dict[str, Any], send: Callable[[str], None]) -> None:
        kind = message["type"]
        self.told[kind] += 1
        if kind == "error":
            self._lost(f"the edge says: {message['error']['message']}")
        elif kind in ("playback.finished", "playback.failed"):
            self._pending -= 1
            self._say(send)

    def _say(self, send: Callable[[str], None]) -> None:
        while self._pending < _AHEAD and not self._left:
            self._pending += 1
            send(json.dumps({"type": "say", "text": next(self._sentences)}))


def tap(receiver: RTCRtpReceiver, track: Callable[[], Track]) -> None:
    """Stamp what a receiver takes; its own handling follows.

    Args:
        receiver: of one kind; before it is connected.
        track: returns where the stamps go.
    """
    take, report = receiver._handle_rtp_packet, receiver._handle_rtcp_packet  # noqa: SLF001
    ssrc: int | None = None

    async def taken(packet: RtpPacket, arrival_time_ms: int) -> None:
        nonlocal ssrc
        # What is sent again comes under another name.
        ssrc = packet.ssrc if ssrc is None else ssrc
        if packet.ssrc == ssrc:
            track().stamped(packet.timestamp, monotonic())
        await take(packet, arrival_time_ms)

    async def reported(packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == ssrc:
            info = packet.sender_info
            track().reported(info.ntp_timestamp, info.rtp_timestamp, monotonic())
        await report(packet)

    receiver._handle_rtp_packet = taken  # type: ignore[method-assign]  # noqa: SLF001
    receiver._handle_rtcp_packet = reported  # type: ignore[method-assign]  # noqa: SLF001
