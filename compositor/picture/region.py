"""Where a mouth goes: the square that the model draws, inside the one around the face that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compositor.picture.i420 import weights

__all__ = ["MODEL_SIDE", "Region", "Weights", "region_of"]

#: Pixels of a side of what the model takes and gives.
MODEL_SIDE: Final = 320
#: SyncTalk_2D scales the face's square to 328 and lets the model see all but 4 pixels at each edge.
_CROP_SIDE: Final = 328
_MARGIN: Final = 4
#: The edge over which a mouth fades in, as a part of the region.
_FEATHER: Final = 0.05


#: Weights of luma and of chroma.
Weights = tuple[NDArray[np.int16], NDArray[np.int16]]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A rectangle of a picture, and how much of a mouth each of its pixels takes.

    Args:
        left: even, in pixels.
        top: even.
        width: even.
        height: even.
        luma: weights, [height, width].
        chroma: weights, [height / 2, width / 2].
    """

    left: int
    top: int
    width: int
    height: int
    luma: NDArray[np.int16]
    chroma: NDArray[np.int16]


def region_of(
    crop: tuple[int, int, int],
    width: int,
    height: int,
    alpha: NDArray[np.float32] | None = None,
    known: dict[tuple[int, int], Weights] | None = None,
) -> Region:
    """Return where the model's output belongs.

    Args:
        crop: left, top and side of the square around the face.
        width: of the picture.
        height: of the picture.
        alpha: how much of the template there is in each pixel of the picture, at least; None = all of it. Where
            the background shows, no mouth is drawn.
        known: weights by size, shared by the regions of one template; those with alpha are each their own.
    """
    left, top, side = crop
    margin = _MARGIN * side / _CROP_SIDE
    x0, y0 = _even(left + margin), _even(top + margin)
    x1 = min(_even(left + side - margin), width)
    y1 = min(_even(top + side - margin), height)
    size = (x1 - x0, y1 - y0)
    found = known.get(size) if known is not None and alpha is None else None
    if found is None:
        mask = np.minimum(_ramp(y1 - y0)[:, None], _ramp(x1 - x0)[None, :])
        found = weights(mask if alpha is None else mask * alpha[y0:y1, x0:x1])
        if known is not None:
            known[size] = found
    return Region(x0, y0, *size, *found)


def _even(value: float) -> int:
    return round(value / 2) * 2


def _ramp(length: int) -> NDArray[np.float64]:
    """Return weights along one side: from nothing at the edge to all, smoothly, and back."""
    soft = max(2.0, length * _FEATHER)
    inside = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5)
    part = np.clip(inside / soft, 0.0, 1.0)
    smooth: NDArray[np.float64] = part * part * (3 - 2 * part)
    return smooth
