"""Frames of one avatar before one background, decoded and ready to be drawn on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from compositor.avatars.footage import Shot
from compositor.picture.i420 import Bytes, blend, converted, planes, size_bytes, weights
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Clip", "backdrop", "layered", "played"]

#: Colours from top to bottom behind a face that has no background.
_TOP: Final = (0.78, 0.83, 0.88)
_BOTTOM: Final = (0.55, 0.62, 0.70)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames that are played forth and back, without end.

    Args:
        width: in pixels.
        height: in pixels.
        frames: I420.
        alpha: how much of the template is in each pixel in all frames; None = all of it.
    """

    width: int
    height: int
    frames: tuple[Bytes, ...]
    alpha: NDArray[np.float32] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all frames."""
        return len(self.frames) * size_bytes(self.width, self.height)

    @property
    def period(self) -> int:
        """Ticks until everything repeats."""
        return max(1, 2 * (len(self.frames) - 1))

    def index(self, position: int) -> int:
        """Return which frame is shown at a position of the endless play."""
        return played(position, len(self.frames))

    def picture(self, position: int) -> Bytes:
        """Return the frame that is shown at a position of the endless play."""
        return self.frames[self.index(position)]


def played(position: int, count: int) -> int:
    """Return the frame at a position when `count` frames are played forth and back."""
    if count < 2:
        return 0
    at = position % (2 * (count - 1))
    return at if at < count else 2 * (count - 1) - at


def layered(
    template: Iterable[Shot], behind: Iterable[Shot] | None, width: int, height: int, *, param: str = "background"
) -> Clip:
    """Return a template in front of a background; one without transparency is taken to be in the background's frames.

    Args:
        template: its frames; those with alpha are laid over the background.
        behind: the background's frames; None = the template alone, before a plain wall where it has alpha.
        width: of all.
        height: of all.
        param: what named the background, for messages.

    Raises:
        HeadraceError: the template has no transparency, and the background another number of frames.
    """
    shots = list(template)
    if all(shot.alpha is None for shot in shots):
        return Clip(width, height, _instead(shots, behind, param))
    back: Iterator[Shot] = itertools.cycle(list(behind) if behind is not None else [Shot(backdrop(width, height))])
    alphas = [shot.alpha for shot in shots if shot.alpha is not None]
    return Clip(
        width,
        height,
        tuple(_over(shot, next(back), width, height) for shot in shots),
        alpha=np.minimum.reduce(alphas),
    )


def backdrop(width: int, height: int) -> Bytes:
    """Return a plain wall: light above, darker below."""
    part = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    colours = np.array(_TOP, np.float32) * (1 - part) + np.array(_BOTTOM, np.float32) * part
    pixels = np.broadcast_to(colours * 255, (height, width, 3)).astype(np.uint8)
    return converted(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"), width, height)


def _instead(shots: list[Shot], behind: Iterable[Shot] | None, param: str) -> tuple[Bytes, ...]:
    if behind is None:
        return tuple(shot.picture for shot in shots)
    frames = tuple(shot.picture for shot in behind)
    if len(frames) != len(shots):
        raise HeadraceError(
            Code.INVALID_REQUEST,
            f"{param}: the template has no transparency, so its background stands for it and needs as many frames:"
            f" expected {len(shots)}, got {len(frames)}",
            param=param,
        )
    return frames


def _over(shot: Shot, behind: Shot, width: int, height: int) -> Bytes:
    if shot.alpha is None:
        return shot.picture
    out = behind.picture.copy()
    luma, chroma = weights(shot.alpha)
    for at, (under, over) in enumerate(
        zip(planes(out, width, height), planes(shot.picture, width, height), strict=True)
    ):
        blend(under, over, luma if at == 0 else chroma)
    return out
