"""The peer: a WebRTC server as aiortc's examples build it, which encodes every viewer's picture and sound anew.

`python -m loadtest.viewers.peer READY_FILE`. What it sends is as large and as often as what the edge passes on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from fractions import Fraction
from time import monotonic
from typing import ClassVar

import av
import numpy as np
import uvicorn
from aioice import ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.compositor.media import FPS, picture
from streamkit.ops.server import write_ready_file

__all__ = ["main"]


class _Face(VideoStreamTrack):
    """The simulator's face, drawn by one and the same hand for all viewers: drawing is not what is compared."""

    frames: ClassVar[list[NDArray[np.uint8]]] = []

    def __init__(self) -> None:
        super().__init__()
        self._began = monotonic()
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        self._number += 1
        await asyncio.sleep(max(0.0, self._began + self._number / FPS - monotonic()))
        frame = av.VideoFrame.from_ndarray(self.frames[self._number % len(self.frames)], format="yuv420p")
        frame.pts, frame.time_base = self._number * 90_000 // FPS, Fraction(1, 90_000)
        return frame


def main() -> None:
    """Serve until SIGTERM."""
    ice.get_host_addresses = lambda **_: ["127.0.0.1"]
    for number in range(FPS):
        luma = picture(0.5 + 0.5 * np.sin(number / 4), number)
        _Face.frames.append(np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)]))
    asyncio.run(_serve(sys.argv[1]))


async def _serve(ready: str) -> None:
    peers: set[RTCPeerConnection] = set()

    async def offer(request: Request) -> Response:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.add(peer)
        peer.addTrack(_Face())
        peer.addTrack(AudioStreamTrack())
        h264 = [one for one in RTCRtpSender.getCapabilities("video").codecs if one.mimeType == "video/H264"]
        peer.getTransceivers()[0].setCodecPreferences(h264)
        await peer.setRemoteDescription(RTCSessionDescription((await request.body()).decode(), "offer"))
        await peer.setLocalDescription()
        return Response(peer.localDescription.sdp, 201, media_type="application/sdp")

    app = Starlette(routes=[Route("/offer", offer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", loop="uvloop"))

    async def told() -> None:
        while not server.started:  # noqa: ASYNC110  uvicorn tells of it in no other way
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        write_ready_file(ready, {"url": f"http://127.0.0.1:{port}/offer", "pid": os.getpid()})

    await asyncio.gather(server.serve(), told())
    await asyncio.gather(*(peer.close() for peer in peers))


if __name__ == "__main__":
    main()
