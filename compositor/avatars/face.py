"""The face that the project draws: a person in front of nothing, who breathes and blinks, mouth closed.

It fits the model `reference:mouth`, which opens a mouth where this one is closed. Numbers are parts of the picture's
shorter side, counted from its middle; there is no random part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from compositor.avatars.footage import Shot
from compositor.picture.i420 import converted

__all__ = ["FRAMES", "crop_of", "drawn"]

#: Length: played forth and back it lasts twice that.
FRAMES: Final = 60
_Colour = tuple[float, float, float]
_Grid = tuple[NDArray[np.float32], NDArray[np.float32]]

_SKIN: Final[_Colour] = (0.90, 0.72, 0.60)
_SHADE: Final[_Colour] = (0.80, 0.60, 0.49)
_HAIR: Final[_Colour] = (0.24, 0.16, 0.12)
_LIP: Final[_Colour] = (0.72, 0.38, 0.36)
_WHITE: Final[_Colour] = (0.97, 0.97, 0.96)
_IRIS: Final[_Colour] = (0.24, 0.38, 0.48)
_DARK: Final[_Colour] = (0.10, 0.08, 0.08)
_SHIRT: Final[_Colour] = (0.20, 0.34, 0.52)
_COLLAR: Final[_Colour] = (0.88, 0.90, 0.93)
#: Side of the model's square; its mouth's middle lies at (164, 222) of 328.
_CROP: Final = 328 / 512
_MOUTH_X: Final = 164 / 328
_MOUTH_Y: Final = 222 / 328
#: Where the mouth is, below the middle.
_MOUTH: Final = 0.105
#: The middle frame of a blink.
_BLINK: Final = 22


def crop_of(width: int, height: int) -> tuple[int, int, int]:
    """Return left, top and side of the square around the face."""
    unit = min(width, height)
    side = round(_CROP * unit / 2) * 2
    left = width / 2 - _MOUTH_X * side
    top = height / 2 + _MOUTH * unit - _MOUTH_Y * side
    return max(0, round(left / 2) * 2), max(0, round(top / 2) * 2), side


def drawn(width: int, height: int) -> Iterator[Shot]:
    """Yield all frames. Draws: not on an event loop."""
    sheet = _Sheet(width, height)
    for number in range(FRAMES):
        turn = number / (FRAMES - 1)
        yield _shot(sheet, breath=math.sin(turn * math.pi) * 0.006, lid=_lid(number), glance=_glance(turn))


class _Sheet:
    """Paper of one size."""

    def __init__(self, width: int, height: int) -> None:
        self.unit = min(width, height)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        self.grid: _Grid = ((x + 0.5 - width / 2) / self.unit, (y + 0.5 - height / 2) / self.unit)
        self.pixels = np.zeros((height, width, 4), np.float32)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: _Colour, *, within: float = 1.0) -> None:
        """Paint an ellipse with a soft edge of a pixel; only its own rectangle is touched."""
        height, width, _ = self.pixels.shape
        unit = self.unit
        x0 = max(0, int((x - rx) * unit + width / 2) - 2)
        x1 = min(width, int((x + rx) * unit + width / 2) + 3)
        y0 = max(0, int((y - ry) * unit + height / 2) - 2)
        y1 = min(height, int((y + ry) * unit + height / 2) + 3)
        if x0 >= x1 or y0 >= y1:
            return
        gx, gy = (axis[y0:y1, x0:x1] for axis in self.grid)
        far = np.sqrt(((gx - x) / rx) ** 2 + ((gy - y) / ry) ** 2)
        cover = np.clip((1.0 - far) * min(rx, ry) * unit + 0.5, 0.0, 1.0)[..., None] * np.float32(within)
        part = self.pixels[y0:y1, x0:x1]
        part[..., :3] += (np.array(colour, np.float32) - part[..., :3]) * cover
        part[..., 3:] = np.maximum(part[..., 3:], cover)


def _shot(sheet: _Sheet, *, breath: float, lid: float, glance: float) -> Shot:
    height, width, _ = sheet.pixels.shape
    sheet.pixels[:] = 0.0
    sheet.pixels[..., :3] = 0.5
    paint = sheet.ellipse
    paint(0.0, -0.10, 0.245, 0.275, _HAIR)
    paint(0.0, 0.66 - breath, 0.46, 0.36, _SHIRT)
    paint(0.0, 0.36 - breath * 0.5, 0.14, 0.06, _COLLAR)
    paint(0.0, 0.26, 0.085, 0.13, _SHADE)
    for side in (-1.0, 1.0):
        paint(side * 0.205, -0.02, 0.032, 0.058, _SHADE)
    paint(0.0, -0.02, 0.205, 0.255, _SKIN)
    paint(0.0, -0.225, 0.19, 0.085, _HAIR)
    for side in (-1.0, 1.0):
        paint(side * 0.115, 0.05, 0.05, 0.04, _LIP, within=0.18)
        paint(side * 0.082, -0.115, 0.046, 0.010, _HAIR)
        _eye(sheet, side * 0.082, -0.062, lid, glance)
    paint(0.0, 0.015, 0.022, 0.034, _SHADE, within=0.8)
    paint(0.0, -0.005, 0.014, 0.036, _SKIN, within=0.9)
    paint(0.0, _MOUTH - 0.004, 0.070, 0.012, _LIP)
    paint(0.0, _MOUTH + 0.006, 0.055, 0.012, _LIP)
    paint(0.0, _MOUTH, 0.068, 0.0022, _DARK, within=0.7)
    pixels = (np.clip(sheet.pixels, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[..., :3]), format="rgb24")
    return Shot(converted(frame, width, height), sheet.pixels[..., 3].copy())


def _eye(sheet: _Sheet, x: float, y: float, lid: float, glance: float) -> None:
    paint = sheet.ellipse
    open_ = 1.0 - lid
    paint(x, y, 0.038, 0.021, _SHADE, within=0.6)
    if open_ > 0.05:
        paint(x, y, 0.034, 0.018 * open_, _WHITE)
        paint(x + glance, y, min(0.0155, 0.018 * open_), 0.0155 * open_, _IRIS)
        paint(x + glance, y, 0.0075 * open_, 0.0075 * open_, _DARK)
        paint(x + glance - 0.004, y - 0.005 * open_, 0.003, 0.003 * open_, _WHITE)
    else:
        paint(x, y + 0.004, 0.034, 0.003, _DARK, within=0.6)


def _lid(number: int) -> float:
    """Return how far the lids are closed: a blink of five frames."""
    return max(0.0, 1.0 - abs(number - _BLINK) / 2.5)


def _glance(turn: float) -> float:
    return 0.004 * math.sin(turn * math.pi * 2) * (1.0 - turn)
