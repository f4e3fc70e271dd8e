"""Pictures without a session: the frames of one utterance, or of the idle loop, as files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import numpy as np
from av.video.reformatter import VideoReformatter
from grpc import aio
from numpy.typing import NDArray

from compositor.avatars.gallery import Scene
from compositor.avatars.roots import checked_name
from compositor.contracts import TICK_MS, Sound, Speech, SpeechTick
from compositor.encode.jpeg import JpegFiles
from compositor.encode.png import png
from compositor.mouths.stream import MouthStream, Wanted
from compositor.picture.i420 import rgb_of
from compositor.picture.paste import Canvas
from compositor.session.wishes import MAX_TEXT, bytes_of_pcm, wrong
from compositor.studio import Studio
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["rendered"]

_MAX_SOUND_S: Final = 60
_MAX_FRAMES: Final = 100_000
_QUALITY: Final = 90
#: Sound that is given ahead of the ticks that were taken; more than 10 s would be refused.
_AHEAD_S: Final = 5


async def rendered(studio: Studio, request: pb.RenderFramesRequest) -> AsyncGenerator[pb.RenderedFrame, None]:
    """Yield files, one for each tick.

    Raises:
        HeadraceError: a field is wrong, something is not there, the voice or the inference server failed.
    """
    _check(request)
    if studio.renders >= studio.settings.max_renders:
        raise HeadraceError(
            Code.SATURATED,
            f"{studio.settings.max_renders} calls for pictures are answered (max_renders)",
            retry_after_ms=2_000,
        )
    studio.renders += 1
    try:
        async with aclosing(_rendered(studio, request)) as frames:
            async for frame in frames:
                yield frame
    finally:
        studio.renders -= 1


async def _rendered(studio: Studio, request: pb.RenderFramesRequest) -> AsyncGenerator[pb.RenderedFrame, None]:
    scene = await studio.gallery.hold(request.avatar, request.tenant, request.background)
    try:
        printer = _Printer(scene, request)
        loop = asyncio.get_running_loop()
        index = 0
        async with aclosing(_faces(studio, scene, request)) as mouths:
            async for mouth in mouths:
                frame = await loop.run_in_executor(studio.workshop.pool, printer.file, index, mouth)
                studio.meters.compose.observe(frame.compose_ms / 1000)
                studio.meters.rendered.value += 1
                yield frame
                index += 1
                if index == request.max_frames:
                    return
    finally:
        studio.gallery.release(scene)


def _check(request: pb.RenderFramesRequest) -> None:
    checked_name(request.avatar, "avatar")
    if request.image not in pb.Image.values():
        raise wrong("image", "expected PNG or JPG")
    if request.quality > 100:
        raise wrong("quality", f"expected 1 to 100, or 0 for {_QUALITY}, got {request.quality}")
    if request.max_frames > _MAX_FRAMES:
        raise wrong("max_frames", f"expected at most {_MAX_FRAMES}, got {request.max_frames}")
    if request.text and request.pcm:
        raise wrong("pcm", "expected nothing beside text")
    if len(request.text) > MAX_TEXT:
        raise wrong("text", f"expected at most {MAX_TEXT} characters, got {len(request.text)}")
    if request.pcm:
        bytes_of_pcm(request.pcm, request.sample_rate, request.channels, max_s=_MAX_SOUND_S)
    elif not request.text and not request.max_frames:
        raise wrong("max_frames", "expected a number above 0: the idle loop has no end")


@dataclass(frozen=True, slots=True, eq=False)
class _Talk:
    """An utterance, and what gives its samples a push."""

    speech: Speech
    more: Callable[[int], None]


async def _faces(studio: Studio, scene: Scene, request: pb.RenderFramesRequest) -> AsyncGenerator[bytes | None, None]:
    """Yield each tick's mouth; None of the idle loop."""
    if not request.text and not request.pcm:
        while True:
            yield None
    talk = _talk(studio, scene, request)
    mouths = studio.mouths(scene)
    try:
        # The first frame may have to wait for its model.
        await _placed(studio, scene)
        position = 0
        batch: list[SpeechTick] = []
        async for tick in talk.speech.ticks():
            batch.append(tick)
            talk.more(position + len(batch))
            if len(batch) == studio.settings.max_batch:
                for mouth in await _asked(mouths, scene, batch, position):
                    yield mouth
                position += len(batch)
                batch = []
        for mouth in await _asked(mouths, scene, batch, position) if batch else ():
            yield mouth
    finally:
        await talk.speech.aclose()
        await mouths.aclose()


def _talk(studio: Studio, scene: Scene, request: pb.RenderFramesRequest) -> _Talk:
    if request.text:
        return _Talk(studio.voices.say(request.text, request.voice or scene.avatar.voice), lambda _: None)
    sound = studio.voices.hear(request.sample_rate, request.channels)
    pusher = _Pusher(sound, request.pcm, 2 * request.channels * request.sample_rate)
    pusher.more(0)
    return _Talk(sound, pusher.more)


class _Pusher:
    """Gives a long sound in pieces, ahead of what was taken of it."""

    def __init__(self, sound: Sound, pcm: bytes, second_bytes: int) -> None:
        self._sound, self._pcm, self._second = sound, pcm, second_bytes
        self._given = 0

    def more(self, ticks: int) -> None:
        """Give what may be given when so many ticks were taken."""
        until_s = ticks * TICK_MS / 1000 + _AHEAD_S
        while self._given < len(self._pcm) and self._given < until_s * self._second:
            self._sound.push(self._pcm[self._given : self._given + self._second])
            self._given += self._second
            if self._given >= len(self._pcm):
                self._sound.end()


async def _placed(studio: Studio, scene: Scene) -> None:
    try:
        await studio.sets.placed(scene, [0])
    except aio.AioRpcError as error:
        raise HeadraceError(Code.BACKEND_ERROR, f"inference server: {error.details() or error.code()}") from None


async def _asked(mouths: MouthStream, scene: Scene, batch: list[SpeechTick], position: int) -> list[bytes]:
    return await mouths.ask([Wanted(scene.clip.index(position + at), tick.features) for at, tick in enumerate(batch)])


class _Printer:
    """Draws and files one picture after the other."""

    def __init__(self, scene: Scene, request: pb.RenderFramesRequest) -> None:
        self._scene = scene
        clip = scene.clip
        self._canvas = Canvas(clip.width, clip.height, scene.avatar.channels)
        self._reformatter = VideoReformatter()
        self._jpeg = (
            JpegFiles(clip.width, clip.height, request.quality or _QUALITY) if request.image == pb.JPG else None
        )

    def file(self, index: int, mouth: bytes | None) -> pb.RenderedFrame:
        """Return one frame. Draws and encodes: not on an event loop."""
        clip = self._scene.clip
        begun = time.perf_counter()
        at = clip.index(index)
        self._canvas.draw(clip.frames[at], mouth, self._scene.region(at))
        drawn = time.perf_counter()
        image = self._png() if self._jpeg is None else self._jpeg.file(self._canvas.frame)
        return pb.RenderedFrame(
            index=index,
            pts=index * 90 * TICK_MS,
            image=image,
            width=clip.width,
            height=clip.height,
            compose_ms=(drawn - begun) * 1000,
            encode_ms=(time.perf_counter() - drawn) * 1000,
        )

    def _png(self) -> bytes:
        clip = self._scene.clip
        pixels: NDArray[np.uint8] = rgb_of(
            self._canvas.picture, clip.width, clip.height, reformatter=self._reformatter, exact=False
        )
        return png(pixels)
