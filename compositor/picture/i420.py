"""Pictures in I420: a plane of luma and two of chroma at half its size; BT.601, limited range."""

from __future__ import annotations

from typing import Any, Final

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

__all__ = [
    "FULL",
    "Bytes",
    "Planes",
    "blank",
    "blend",
    "converted",
    "frame_of",
    "planes",
    "rgb_of",
    "rows",
    "size_bytes",
    "weights",
]

#: A whole picture: luma, then both chroma planes, without padding.
Bytes = NDArray[np.uint8]
Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
#: Weight of a pixel that is all foreground. Differences times this fit into 16 bits.
FULL: Final = 128
_SHIFT: Final = 7
_EXACT: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def size_bytes(width: int, height: int) -> int:
    """Return the bytes of a picture."""
    return width * height * 3 // 2


def blank(width: int, height: int) -> Bytes:
    """Return a black picture."""
    found = np.empty(size_bytes(width, height), np.uint8)
    found[: width * height] = 16
    found[width * height :] = 128
    return found


def planes(picture: Bytes, width: int, height: int) -> Planes:
    """Return the three planes as views."""
    luma = width * height
    quarter = luma // 4
    half = (height // 2, width // 2)
    return (
        picture[:luma].reshape(height, width),
        picture[luma : luma + quarter].reshape(half),
        picture[luma + quarter :].reshape(half),
    )


def frame_of(picture: Bytes, width: int, height: int) -> av.VideoFrame:
    """Return a frame that shares the picture's memory; `height` is a multiple of 4, as PyAV reckons it."""
    frame = av.VideoFrame.from_numpy_buffer(picture.reshape(height * 3 // 2, width), format="yuv420p")
    frame.color_range = ColorRange.MPEG
    return frame


def rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return a decoded plane's memory as rows, padding at their ends included."""
    # It has the buffer protocol, which its type does not say.
    memory: Any = plane
    return np.frombuffer(memory, np.uint8).reshape(-1, plane.line_size)


def converted(frame: av.VideoFrame, width: int, height: int, reformatter: VideoReformatter | None = None) -> Bytes:
    """Return any frame as a picture of this size.

    Args:
        frame: as a decoder gave it.
        width: even.
        height: even.
        reformatter: kept by whoever converts many of one kind; one thread's at a time.
    """
    found = (reformatter or VideoReformatter()).reformat(
        frame,
        width,
        height,
        "yuv420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC,
        threads=1,
    )
    out = np.empty(size_bytes(width, height), np.uint8)
    for plane, wanted in zip(found.planes, planes(out, width, height), strict=True):
        wanted[:] = rows(plane)[: wanted.shape[0], : wanted.shape[1]]
    return out


def rgb_of(
    picture: Bytes,
    width: int,
    height: int,
    *,
    channels: str = "rgb",
    reformatter: VideoReformatter | None = None,
    exact: bool = True,
) -> NDArray[np.uint8]:
    """Return a picture as [height, width, 3].

    Args:
        picture: I420.
        width: even.
        height: a multiple of 4.
        channels: `rgb` or `bgr`.
        reformatter: kept by whoever converts many; one thread's at a time.
        exact: chroma is interpolated and nothing rounded early, which takes twenty times as long.
    """
    frame = (reformatter or VideoReformatter()).reformat(
        frame_of(picture, width, height),
        format=f"{channels}24",
        src_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT if exact else Interpolation.BILINEAR,
        threads=1,
    )
    return frame.to_ndarray().astype(np.uint8, copy=False)


def weights(mask: NDArray[Any]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return weights of luma and of chroma, 0 to `FULL`, from a mask of 0..1 with even sides."""
    full = np.rint(np.clip(mask, 0.0, 1.0) * FULL).astype(np.int16)
    height, width = full.shape
    half = full.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3), dtype=np.int32)
    return full, ((half + 2) >> 2).astype(np.int16)


def blend(under: NDArray[np.uint8], over: NDArray[np.uint8], weight: NDArray[np.int16]) -> None:
    """Blend `over` into `under`, in place; a weight of 0 changes no bit, one of `FULL` is exactly `over`."""
    difference = np.subtract(over, under, dtype=np.int16)
    np.multiply(difference, weight, out=difference)
    difference += FULL // 2
    difference >>= _SHIFT
    difference += under
    under[:] = difference
