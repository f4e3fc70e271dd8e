"""One session's canvas: draws a tick and encodes it, on a thread of the pool, one tick at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from compositor.avatars.gallery import Scene
from compositor.encode.codecs import Codecs
from compositor.encode.encoder import Encoded, Shape
from compositor.picture.paste import Canvas
from compositor.session.posture import Step
from compositor.session.track import Track

__all__ = ["Order", "Painted", "Painter"]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What a codec wants of a tick.

    Args:
        track: the codec.
        key: whether it must be a keyframe.
    """

    track: Track
    key: bool


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What came of it.

    Args:
        units: one for each order, in their order.
        compose_s: drawing.
        encode_s: each codec.
    """

    units: tuple[Encoded, ...]
    compose_s: float
    encode_s: tuple[float, ...]


class Painter:
    """Draws and encodes.

    Args:
        scene: what is drawn on.
        codecs: encoders are opened here.
        keyframe_ticks: the longest distance between keyframes.
    """

    def __init__(self, scene: Scene, codecs: Codecs, keyframe_ticks: int) -> None:
        self._scene = scene
        self._codecs = codecs
        self._keyframe_ticks = keyframe_ticks
        clip = scene.clip
        self._canvas = Canvas(clip.width, clip.height, scene.avatar.channels)

    def paint(self, step: Step, tick: int, orders: Sequence[Order]) -> Painted:
        """Draw a tick and encode it for each order.

        Raises:
            av.FFmpegError: an encoder cannot be opened.
        """
        clip = self._scene.clip
        begun = time.perf_counter()
        at = clip.index(step.position)
        self._canvas.draw(clip.frames[at], step.mouth, self._scene.region(at))
        drawn = last = time.perf_counter()
        units, took = [], []
        for order in orders:
            track, key = order.track, order.key
            encoder = track.encoder
            if encoder is None:
                shape = Shape(clip.width, clip.height, track.bitrate_bps, self._keyframe_ticks)
                encoder = track.encoder = self._codecs.open(track.codec, shape)
                key = True
            units.append(encoder.encode(self._canvas.frame, tick, key=key))
            now = time.perf_counter()
            took.append(now - last)
            last = now
        return Painted(tuple(units), drawn - begun, tuple(took))
