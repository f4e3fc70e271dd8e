"""Idle loops, encoded once for all who idle: closed groups of pictures, entered and left at their keyframes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import av

from compositor.avatars.clip import Clip
from compositor.avatars.footage import FPS
from compositor.avatars.gallery import Scene, SceneKey
from compositor.encode.codecs import Codecs
from compositor.encode.encoder import Encoded, Shape
from compositor.picture.i420 import frame_of
from compositor.shelf import Shelf
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["Loop", "LoopKey", "Loops", "encoded"]

#: A scene and a codec.
LoopKey = tuple[SceneKey, int]


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """The idle face, for one period or several.

    Args:
        units: one for each tick; the first is a keyframe.
        bitrate_bps: what it needs; 0 = its codec knows of none.
    """

    units: tuple[Encoded, ...]
    bitrate_bps: int

    def unit(self, position: int) -> Encoded:
        """Return the access unit at a position of the endless play."""
        return self.units[position % len(self.units)]

    @property
    def size_bytes(self) -> int:
        """Bytes of all units."""
        return sum(len(unit.data) for unit in self.units)


class Loops:
    """All loops: made in the pool at first use, the ones used longest ago forgotten first.

    Args:
        codecs: encoders.
        pool: where they run.
        limit_bytes: of all loops.
        keyframe_ticks: distance of keyframes.
    """

    def __init__(self, codecs: Codecs, pool: Executor, limit_bytes: int, keyframe_ticks: int) -> None:
        self._codecs = codecs
        self._pool = pool
        self._keyframe_ticks = keyframe_ticks
        self.kept: Shelf[LoopKey, Loop] = Shelf(limit_bytes, lambda loop: loop.size_bytes, "loops_mb")

    async def hold(self, scene: Scene, codec: int) -> Loop:
        """Return a scene's loop and keep it until `release`.

        Raises:
            HeadraceError: there is no room for it.
            av.FFmpegError: it cannot be encoded.
        """
        return await self.kept.hold((scene.key, codec), self._maker(scene, codec))

    def at_hand(self, scene: Scene, codec: int) -> Loop | None:
        """Return a scene's loop as `hold` does, if it is there already."""
        return self.kept.at_hand((scene.key, codec))

    def release(self, scene: Scene, codec: int) -> None:
        """Let go of a loop."""
        self.kept.release((scene.key, codec))

    def _maker(self, scene: Scene, codec: int) -> Callable[[], Awaitable[Loop]]:
        shape = Shape(scene.clip.width, scene.clip.height, scene.avatar.bitrate_bps, 1_000_000)

        async def make() -> Loop:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._pool, encoded, self._codecs, scene.clip, codec, shape, self._keyframe_ticks
            )

        return make


def encoded(codecs: Codecs, clip: Clip, codec: int, shape: Shape, keyframe_ticks: int) -> Loop:
    """Encode one period. Not on an event loop.

    Raises:
        av.FFmpegError: it cannot be encoded.
    """
    encoder = codecs.open(codec, shape)
    frames: dict[int, av.VideoFrame] = {}
    units = []
    # A still picture is no loop of keyframes: it is played until the next one is due.
    repeats = -(-keyframe_ticks // clip.period)
    for tick in range(clip.period * repeats):
        at = clip.index(tick)
        if at not in frames:
            # A frame's time and kind are written to, so every encoder has its own.
            frames[at] = frame_of(clip.frames[at], clip.width, clip.height)
        units.append(encoder.encode(frames[at], tick, key=tick % keyframe_ticks == 0))
    encoder.close()
    bits = 8 * sum(len(unit.data) for unit in units)
    needed_bps = 0 if codec == pb.MJPEG else min(bits * FPS // len(units), shape.bitrate_bps)
    return Loop(tuple(units), needed_bps)
