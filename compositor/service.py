"""`compositor.Compositor` over grpc.aio: messages in, the studio's answers out."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from grpc import aio

from compositor.avatars.gallery import Scene
from compositor.contracts import TICK_MS
from compositor.render import rendered
from compositor.session.wishes import wrong
from compositor.studio import Studio
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb import compositor_pb2_grpc

__all__ = ["CompositorService"]

_log = logging.getLogger(__name__)
_Context = aio.ServicerContext[Any, Any]


# The two streams are coroutines that write, not generators: gRPC drops a generator whose caller has left where it
# stands, and what it holds would be let go of when the garbage collector comes by.
class CompositorService(compositor_pb2_grpc.CompositorServicer):
    """The service.

    Args:
        studio: what answers.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._created = int(time.time())

    async def Session(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[pb.SessionRequest], context: _Context
    ) -> None:
        """Run one avatar session."""
        studio = self._studio
        begun = time.monotonic()
        name = secrets.token_hex(8)
        outcome = "left"
        opened: pb.Open | None = None
        try:
            opened = await self._opening(requests)
            async with studio.session(opened) as (session, scene):
                await context.write(pb.SessionReply(opened=self._opened(name, scene, session.bitrate_bps)))
                async with aclosing(session.replies(requests)) as replies:
                    async for reply in replies:
                        await context.write(reply)
            outcome = "finished"
        except HeadraceError as error:
            outcome = error.code.value
            await self._abort(context, error)
        finally:
            log.event(
                _log,
                "avatar.end",
                session=name,
                request_id=opened.request_id if opened is not None else None,
                avatar=opened.avatar if opened is not None else None,
                outcome=outcome,
                seconds=round(time.monotonic() - begun, 3),
            )

    async def RenderFrames(  # type: ignore[override]  # noqa: N802
        self, request: pb.RenderFramesRequest, context: _Context
    ) -> None:
        """Return pictures as files."""
        try:
            async with aclosing(rendered(self._studio, request)) as frames:
                async for frame in frames:
                    await context.write(frame)
        except HeadraceError as error:
            await self._abort(context, error)

    async def ListAvatars(  # noqa: N802
        self, request: pb.ListAvatarsRequest, context: _Context
    ) -> pb.ListAvatarsResponse:
        """List every avatar."""
        found = await asyncio.to_thread(lambda: [self._studio.avatar(name) for name in self._studio.gallery.avatars])
        for avatar in found:
            avatar.created = self._created
        return pb.ListAvatarsResponse(avatars=found)

    async def Health(self, request: pb.HealthRequest, context: _Context) -> pb.HealthResponse:  # noqa: N802
        """Say how it is."""
        studio = self._studio
        speech = bool(studio.voices.names())
        lacking = [
            what for what, there in (("no inference server", studio.link.answers), ("no voice", speech)) if not there
        ]
        return pb.HealthResponse(
            healthy=True,
            status=", ".join(lacking) or "ready",
            sessions=studio.sessions,
            max_sessions=studio.settings.max_sessions,
            inference=studio.link.answers,
            speech=speech,
        )

    def _opened(self, name: str, scene: Scene, bitrate_bps: int) -> pb.Opened:
        return pb.Opened(
            session=name,
            width=scene.clip.width,
            height=scene.clip.height,
            fps=1000 // TICK_MS,
            window=self._studio.settings.window,
            codecs=[pb.Codec.ValueType(codec) for codec in self._studio.workshop.codecs.available],
            audio_codec="opus",
            bitrate_bps=bitrate_bps,
        )

    async def _opening(self, requests: AsyncIterator[pb.SessionRequest]) -> pb.Open:
        """Return the first request, which is Open."""
        wait_s = self._studio.settings.open_timeout_ms / 1000
        try:
            async with asyncio.timeout(wait_s):
                first = await anext(requests, None)
        except TimeoutError:
            raise HeadraceError(
                Code.REQUEST_TIMEOUT, f"open: expected within {wait_s:g} s (open_timeout_ms)", param="open"
            ) from None
        if first is None or not first.HasField("open"):
            raise wrong("open", "expected as the first request")
        return first.open

    async def _abort(self, context: _Context, error: HeadraceError) -> NoReturn:
        """End a call with the error's status; advice to retry goes where gRPC's own retries read it (gRFC A6)."""
        self._studio.meters.refused[error.code].value += 1
        metadata: tuple[tuple[str, str], ...] = (("headrace-code", error.code.value),)
        if error.param is not None:
            metadata += (("headrace-param", error.param),)
        if error.retry_after_ms is not None:
            pause = str(error.retry_after_ms)
            metadata += (("grpc-retry-pushback-ms", pause), ("retry-after-ms", pause))
        status: grpc.StatusCode = getattr(grpc.StatusCode, error.wire.grpc)
        await context.abort(status, error.message, metadata)
        raise RuntimeError("abort returned")
