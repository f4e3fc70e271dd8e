"""An edge with avatars in the test's own loop, between a simulated compositor and viewers that are real peers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
import msgspec
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from edge.avatars.settings import AvatarSettings, WebRtcSettings
from edge.webrtc.hooks import ice_connections
from edge.webrtc.ice import bind_to
from simulator.compositor.script import Script
from simulator.compositor.server import CompositorSimulator, serving
from tests.support.inprocess import RunningEdge, running_edge, until

__all__ = ["AVATAR", "OFFER", "Site", "Watcher", "avatar_site", "site_before"]

AVATAR = "sim-face"
OFFER = {"content-type": "application/sdp"}


class Tone(AudioStreamTrack):
    """A microphone into which somebody hums."""

    async def recv(self) -> AudioFrame:
        """Return 20 ms of it."""
        frame = await super().recv()
        assert isinstance(frame, AudioFrame)
        for plane in frame.planes:
            wave = (round(8_000 * math.sin(at / 4)) for at in range(frame.samples))
            plane.update(struct.pack(f"<{frame.samples}h", *wave))
        return frame


@dataclass
class Watcher:
    """A viewer: an aiortc peer, what it decoded, and what it was told."""

    pc: RTCPeerConnection
    channel: RTCDataChannel | None
    answer: httpx.Response | None = None
    frames: list[tuple[float, VideoFrame]] = field(default_factory=list)
    sound: list[tuple[float, AudioFrame]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    #: Nothing is kept of what is decoded.
    blind: bool = False

    @property
    def location(self) -> str:
        """Its address at the edge."""
        assert self.answer is not None
        return str(self.answer.headers["location"])

    def link(self, relation: str) -> str:
        """Return a link of the answer."""
        assert self.answer is not None
        links = self.answer.headers.get_list("link")
        return next(link[1 : link.index(">")] for link in links if f'rel="{relation}"' in link)

    def say(self, **message: Any) -> None:
        """Send a verb."""
        assert self.channel is not None
        self.channel.send(json.dumps(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of a type."""
        return [message for message in self.told if message["type"] == kind]

    async def heard(self, kind: str, count: int = 1, **members: Any) -> dict[str, Any]:
        """Wait for the `count`th message of a type that has these members."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.of(kind) if all(one.get(key) == value for key, value in members.items())]

        await until(lambda: len(found()) >= count, f"{kind} {members}: {self.told[-5:]}")
        return found()[count - 1]

    async def close(self) -> None:
        """Leave, as a closed tab does."""
        await self.pc.close()
        for task in self.tasks:
            # A track of a peer that never got through is not ended by its close.
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Site:
    """What a test reaches."""

    edge: RunningEdge
    simulator: CompositorSimulator
    http: httpx.AsyncClient
    avatars: AvatarSettings
    watchers: list[Watcher] = field(default_factory=list)

    async def offer(
        self, *, video: bool = True, audio: str | None = "recvonly", channel: bool = True
    ) -> tuple[Watcher, str]:
        """Return a viewer and its offer."""
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        watcher = Watcher(pc, None)
        pc.on("track", lambda track: watcher.tasks.append(asyncio.create_task(_watch(watcher, track))))
        if channel:
            watcher.channel = pc.createDataChannel("headrace")
            watcher.channel.on("message", lambda text: watcher.told.append(json.loads(text)))
        if video:
            pc.addTransceiver("video", direction="recvonly")
        if audio == "sendrecv":
            pc.addTrack(Tone())
        elif audio is not None:
            pc.addTransceiver("audio", direction=audio)
        offer = await pc.createOffer()
        for connection in ice_connections(pc):
            bind_to(connection, ["127.0.0.1"], range(0))
        await pc.setLocalDescription(offer)
        self.watchers.append(watcher)
        return watcher, pc.localDescription.sdp

    async def watch(self, path: str = f"/v1/avatars/{AVATAR}/whep", *, wait: bool = True, **kinds: Any) -> Watcher:
        """Become a viewer; returns once connected."""
        watcher, offer = await self.offer(**kinds)
        answer = await self.http.post(path, content=offer, headers=OFFER)
        assert answer.status_code == 201, answer.text
        watcher.answer = answer
        await watcher.pc.setRemoteDescription(RTCSessionDescription(sdp=answer.text, type="answer"))
        if wait:
            await until(lambda: watcher.pc.connectionState == "connected", "the viewer is connected")
        if watcher.channel is not None and wait:
            channel = watcher.channel
            await until(lambda: channel.readyState == "open", "the data channel is open")
        return watcher

    def gauge(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.edge.metric(name, **labels)

    async def quiet(self, *, within_s: float = 6.0) -> None:
        """Wait until nothing is held for any viewer."""

        def idle() -> bool:
            held = self.gauge("headrace_avatar_sessions") + self.gauge("headrace_avatar_viewers")
            return not held and not self.simulator.sessions and self.edge.idle

        await until(idle, "sessions and viewers are given back", within_s=within_s)


async def _watch(watcher: Watcher, track: MediaStreamTrack) -> None:
    try:
        while True:
            frame = await track.recv()
            if isinstance(frame, VideoFrame):
                watcher.frames.append((monotonic(), frame))
            elif isinstance(frame, AudioFrame):
                watcher.sound.append((monotonic(), frame))
    except MediaStreamError:
        return


@contextlib.asynccontextmanager
async def avatar_site(
    *scripts: Any,
    script: Script | None = None,
    avatars: dict[str, Any] | None = None,
    webrtc: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Run an edge with a simulated compositor.

    Args:
        scripts: of its engines.
        script: of the compositor.
        avatars: settings of `[edge.avatars]`.
        webrtc: settings of `[edge.webrtc]`.
        settings: of the edge.
    """
    async with serving(script) as (simulator, url):
        given = {"compositor_url": url, **(avatars or {})}
        async with site_before(simulator, *scripts, avatars=given, webrtc=webrtc, **settings) as site:
            yield site


@contextlib.asynccontextmanager
async def site_before(
    simulator: CompositorSimulator | None,
    *scripts: Any,
    avatars: dict[str, Any],
    webrtc: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Run an edge before any compositor; see `avatar_site`."""
    ours = msgspec.convert({"resume_ms": 300, **avatars}, AvatarSettings)
    theirs = msgspec.convert(webrtc or {}, WebRtcSettings)
    async with (
        running_edge(*scripts, avatars=ours, webrtc=theirs, **settings) as edge,
        httpx.AsyncClient(base_url=edge.url, timeout=20) as http,
    ):
        site = Site(edge, simulator or CompositorSimulator(Script()), http, ours)
        try:
            yield site
        finally:
            for watcher in site.watchers:
                await watcher.close()
