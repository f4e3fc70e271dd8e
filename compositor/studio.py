"""The compositor without its wire: avatars, encoders, the link to the inference server, and who has a session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import av
from grpc import aio

from compositor.avatars.gallery import Gallery, Scene
from compositor.contracts import TICK_MS, Voices
from compositor.encode.codecs import Codecs
from compositor.encode.loops import Loops
from compositor.meters import Meters
from compositor.mouths.link import InferenceLink
from compositor.mouths.stream import MouthStream
from compositor.mouths.visual_sets import VisualSets
from compositor.session.pace import MonotonicPace, Pace
from compositor.session.session import Session
from compositor.session.wishes import checked_open, wrong
from compositor.settings import AvatarSettings, CompositorSettings
from compositor.workshop import Workshop
from streamkit.ops import log
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Studio"]

_log = logging.getLogger(__name__)
_MIB = 1024 * 1024
_STOP_S = 2.0
#: Templates, loops and registrations that are made at a time.
_CHORES = 2


class Studio:
    """Everything behind the service.

    Args:
        settings: the operator's.
        avatars: that may be asked for.
        link: to the inference server.
        voices: who speaks and listens.
        meters: counts.
        pace: time; sessions tick by it.

    Raises:
        streamkit.ops.settings.SettingsError: the settings cannot be used.
    """

    def __init__(
        self,
        settings: CompositorSettings,
        avatars: tuple[AvatarSettings, ...],
        link: InferenceLink,
        voices: Voices,
        meters: Meters,
        *,
        pace: Pace | None = None,
    ) -> None:
        self.settings = settings
        self.link = link
        self.voices = voices
        self.meters = meters
        self.pace = pace or MonotonicPace()
        #: Sessions that are open, and calls for pictures as files.
        self.sessions = 0
        self.renders = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        threads = settings.threads or os.cpu_count() or 1
        # Not bounded itself: a session has one piece of work in it at most, a call of another kind one, too.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="paint")
        # What takes long has threads of its own: faces that speak are not kept waiting by one that is opened.
        self._chores = ThreadPoolExecutor(_CHORES, thread_name_prefix="chore")
        codecs = Codecs(settings)
        self.gallery = Gallery(settings, avatars, self._chores)
        self.loops = Loops(
            codecs, self._chores, settings.loops_mb * _MIB, max(1, settings.loop_keyframe_ms // TICK_MS)
        )
        self.workshop = Workshop(settings, codecs, self.loops, self._pool)
        self.sets = VisualSets(link, self._chores)
        self._warming: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to open what is to be there from the start; nobody waits for it."""
        for avatar in self.gallery.avatars.values():
            if avatar.preload:
                self._behind(self._preload(avatar.id), "preload")

    async def stop(self) -> None:
        """Let go of everything; sessions that were cut are given a moment to let go of theirs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._quiet.wait()
        for task in list(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        await self.sets.close()
        await self.loops.kept.close()
        await self.gallery.scenes.close()
        for pool in (self._pool, self._chores):
            pool.shutdown(wait=True, cancel_futures=True)

    def mouths(self, scene: Scene) -> MouthStream:
        """Return who makes an avatar's mouths."""
        return MouthStream(
            self.link,
            self.sets,
            scene,
            wait_s=self.settings.inference_wait_ms / 1000,
            retry_s=self.settings.inference_retry_ms / 1000,
            clock=self.pace.now,
        )

    @asynccontextmanager
    async def session(self, request: pb.Open) -> AsyncIterator[tuple[Session, Scene]]:
        """Open a session for the length of the block.

        Raises:
            HeadraceError: a field is wrong, something is not there, or there is no room.
        """
        settings = self.settings
        checked_open(request, self.workshop.codecs.available)
        self._check_voice(request.voice)
        if self.sessions >= settings.max_sessions:
            raise HeadraceError(
                Code.SATURATED, f"{settings.max_sessions} sessions are open (max_sessions)", retry_after_ms=2_000
            )
        self.sessions += 1
        self._quiet.clear()
        try:
            scene = await self.gallery.hold(request.avatar, request.tenant, request.background)
            try:
                self._warm(scene)
                bitrate_bps = min(
                    max(request.bitrate_bps or scene.avatar.bitrate_bps, settings.min_bitrate_bps),
                    settings.max_bitrate_bps,
                )
                session = Session(
                    scene,
                    self.mouths(scene),
                    self.voices,
                    request.voice or scene.avatar.voice,
                    workshop=self.workshop,
                    bitrate_bps=bitrate_bps,
                    pace=self.pace,
                    meters=self.meters,
                )
                session.stage.want(request.codecs)
                yield session, scene
            finally:
                self.gallery.release(scene)
        finally:
            self.sessions -= 1
            if not self.sessions:
                self._quiet.set()

    def avatar(self, name: str) -> pb.Avatar:
        """Describe an avatar."""
        avatar = self.gallery.avatar(name)
        reason = self.gallery.problem(name)
        if not reason and not self.link.answers:
            reason = "the inference server does not answer: its mouth would not move"
        elif not reason and avatar.model not in self.link.models:
            reason = f"the inference server has no model {avatar.model}"
        return pb.Avatar(
            avatar=avatar.id, model=avatar.model, width=avatar.width, height=avatar.height, fps=1000 // TICK_MS,
            ready=not reason, reason=reason, voices=self.voices.names(), voice=avatar.voice or self.voices.usual(),
            codecs=[pb.Codec.ValueType(codec) for codec in self.workshop.codecs.available],
        )  # fmt: skip

    def _check_voice(self, voice: str) -> None:
        names = self.voices.names()
        if voice and voice not in names:
            raise wrong("voice", f"expected one of {', '.join(names[:16]) or 'none: there is no voice here'}")

    def _warm(self, scene: Scene) -> None:
        """Have the template registered, and the model loaded with it, before the first word."""

        async def warm() -> None:
            # If the server does not answer it is asked again with the first word.
            with contextlib.suppress(aio.AioRpcError):
                await self.sets.placed(scene, [0])

        self._behind(warm(), "warm")

    async def _preload(self, name: str) -> None:
        """Open an avatar and encode its loops; both stay as long as there is room."""
        try:
            scene = await self.gallery.hold(name, "", "")
        except HeadraceError as error:
            log.event(_log, "avatar.not_preloaded", level=logging.WARNING, avatar=name, why=error.message)
            return
        try:
            self._warm(scene)
            for codec in self.workshop.codecs.available:
                with contextlib.suppress(HeadraceError, av.FFmpegError):
                    await self.loops.hold(scene, codec)
                    self.loops.release(scene, codec)
        finally:
            self.gallery.release(scene)

    def _behind(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)
