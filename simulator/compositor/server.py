"""The simulated compositor's gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio

from simulator.compositor.media import FPS, HEIGHT, WIDTH
from simulator.compositor.script import Script
from simulator.compositor.session import Session as Ticking
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb.compositor_pb2_grpc import CompositorServicer, add_CompositorServicer_to_server

__all__ = ["CompositorSimulator", "serving"]

_KEPT: Final = 2_000

Context = grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionReply]


class CompositorSimulator(CompositorServicer):
    """The service.

    Args:
        script: how it behaves; may be exchanged at any time, for sessions that begin then.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        #: Sessions that are open.
        self.sessions = 0
        #: Every request but acknowledgements, in order; the newest of many.
        self.requests: list[pb.SessionRequest] = []
        self.acked = 0
        self.opened = 0

    def count(self) -> Counter[str]:
        """Return how many requests there were, by kind."""
        return Counter(str(request.WhichOneof("request")) for request in self.requests)

    async def ListAvatars(  # noqa: N802  the contract's name
        self, request: pb.ListAvatarsRequest, context: object
    ) -> pb.ListAvatarsResponse:
        """Tell what there is."""
        script = self.script
        rows = [(name, True) for name in script.avatars] + [(name, False) for name in script.unready]
        return pb.ListAvatarsResponse(
            avatars=[
                pb.Avatar(
                    avatar=name, model="simulated", width=WIDTH, height=HEIGHT, fps=FPS, ready=ready,
                    reason="" if ready else "its model is loading", voices=["hum"], voice="hum",
                    codecs=[pb.H264, pb.VP8, pb.MJPEG], created=1_700_000_000,
                )
                for name, ready in rows
            ]
        )  # fmt: skip

    async def Health(self, request: pb.HealthRequest, context: object) -> pb.HealthResponse:  # noqa: N802
        """Tell how it is."""
        return pb.HealthResponse(
            healthy=True, status="ready", sessions=self.sessions, max_sessions=self.script.max_sessions,
            inference=True, speech=True,
        )  # fmt: skip

    async def RenderFrames(  # noqa: N802
        self, request: pb.RenderFramesRequest, context: object
    ) -> AsyncIterator[pb.RenderedFrame]:
        """Render nothing: only the real one makes files."""
        for _ in range(0):
            yield pb.RenderedFrame()

    async def Session(  # noqa: N802
        self, requests: AsyncIterator[pb.SessionRequest], context: Context
    ) -> AsyncIterator[pb.SessionReply]:
        """Serve one session."""
        script = self.script
        first = await anext(requests)
        if first.WhichOneof("request") != "open":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The first request must be `open`.")
        asked = first.open
        self._note(first)
        if asked.avatar not in script.avatars:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no avatar {asked.avatar}.")
        if self.sessions >= script.max_sessions:
            text = f"There are {self.sessions} sessions; the limit is {script.max_sessions}."
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        if script.mute:
            await asyncio.Event().wait()
        self.sessions += 1
        self.opened += 1
        replies: asyncio.Queue[pb.SessionReply | None] = asyncio.Queue()
        session = Ticking(script, asked, replies.put_nowait)
        tasks = [
            asyncio.create_task(self._listen(session, requests)),
            asyncio.create_task(self._tick(session, replies)),
        ]
        try:
            yield pb.SessionReply(
                opened=pb.Opened(
                    session=f"sim-{self.opened}", width=WIDTH, height=HEIGHT, fps=FPS, window=script.window,
                    codecs=script.codecs,  # type: ignore[arg-type]
                    audio_codec="opus",
                )
            )  # fmt: skip
            while (reply := await replies.get()) is not None:
                yield reply
        finally:
            self.sessions -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, session: Ticking, requests: AsyncIterator[pb.SessionRequest]) -> None:
        async for request in requests:
            self._note(request)
            session.take(request)

    async def _tick(self, session: Ticking, replies: asyncio.Queue[pb.SessionReply | None]) -> None:
        await session.run()
        replies.put_nowait(None)

    def _note(self, request: pb.SessionRequest) -> None:
        if request.WhichOneof("request") == "ack":
            self.acked = request.ack.seq
            return
        self.requests.append(request)
        del self.requests[:-_KEPT]


@contextlib.asynccontextmanager
async def serving(script: Script | None = None, *, port: int = 0) -> AsyncIterator[tuple[CompositorSimulator, str]]:
    """Serve on a loopback port; yields the service and its URL."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    simulator = CompositorSimulator(script or Script())
    add_CompositorServicer_to_server(simulator, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield simulator, f"grpc://127.0.0.1:{bound}"
    finally:
        await server.stop(0)
