"""A mouth onto a picture: scaled and turned into YUV by swscale, blended by numpy, inside of its region only."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from compositor.picture.i420 import Bytes, blend, frame_of, planes, rows, size_bytes
from compositor.picture.region import MODEL_SIDE, Region

__all__ = ["MOUTH_BYTES", "Canvas"]

#: A mouth as the inference server sends it: pixels of one byte for each channel.
MOUTH_BYTES = MODEL_SIDE * MODEL_SIDE * 3
#: A face that comes nearer has a size for each two pixels of it.
_SCALERS = 64


class Canvas:
    """One session's own picture, made anew for each tick; used by one thread at a time.

    Args:
        width: in pixels.
        height: in pixels.
        channels: how mouths mean their three: `rgb` or `bgr`.
    """

    def __init__(self, width: int, height: int, channels: str) -> None:
        self._size = (width, height)
        self._format = f"{channels}24"
        #: By size: to set one up for another size takes longer than to scale.
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}
        #: What was drawn last.
        self.picture: Bytes = np.empty(size_bytes(width, height), np.uint8)
        #: The same memory for an encoder.
        self.frame: av.VideoFrame = frame_of(self.picture, width, height)

    def draw(self, under: Bytes, mouth: bytes | None, region: Region) -> None:
        """Draw `under`, and `mouth` onto it.

        Args:
            under: the whole picture, of the canvas's size.
            mouth: `MOUTH_BYTES`, row by row; None = the picture as it is.
            region: where it goes.
        """
        np.copyto(self.picture, under)
        if mouth is None:
            return
        pixels = np.frombuffer(mouth, np.uint8).reshape(MODEL_SIDE, MODEL_SIDE, 3)
        scaled = self._scaler(region).reformat(
            av.VideoFrame.from_ndarray(pixels, format=self._format),
            region.width,
            region.height,
            "yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        top, left = region.top, region.left
        for at, (plane, whole) in enumerate(zip(scaled.planes, planes(self.picture, *self._size), strict=True)):
            if at == 0:
                y, x, weight = top, left, region.luma
            else:
                y, x, weight = top // 2, left // 2, region.chroma
            height, width = weight.shape
            blend(whole[y : y + height, x : x + width], rows(plane)[:height, :width], weight)

    def _scaler(self, region: Region) -> VideoReformatter:
        size = (region.width, region.height)
        if size not in self._scalers:
            if len(self._scalers) >= _SCALERS:
                self._scalers.clear()
            self._scalers[size] = VideoReformatter()
        return self._scalers[size]
