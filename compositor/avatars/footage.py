"""Frames from files: a folder of images, one image, or a video brought to 25 frames a second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from compositor.avatars import stills
from compositor.picture.i420 import Bytes, converted
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["FPS", "Limits", "Shot", "footage"]

FPS: Final = 25
#: What reads a video, by its suffix.
_DEMUXERS: Final = {".mp4": "mov", ".mov": "mov", ".webm": "matroska", ".mkv": "matroska"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is opened at most.

    Args:
        pixels: of one picture.
        frames: of one template or background.
        size_bytes: of all its frames together, decoded.
    """

    pixels: int
    frames: int
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One frame.

    Args:
        picture: I420.
        alpha: how much of each pixel there is, 0..1, [height, width]; None = all of all.
        size: width and height before it was scaled; (0, 0) = it was not.
    """

    picture: Bytes
    alpha: NDArray[np.float32] | None = None
    size: tuple[int, int] = (0, 0)


def footage(path: Path, width: int, height: int, limits: Limits, param: str) -> Iterator[Shot]:
    """Yield a path's frames, scaled to one size. Decodes: not on an event loop.

    Args:
        path: a folder of images, an image or a video.
        width: even.
        height: even.
        limits: of what is opened.
        param: what named it, for messages.

    Raises:
        HeadraceError: there is no frame in it, one is damaged or too large, or there are too many.
    """
    found = _frames(path, limits, param)
    reformatter = VideoReformatter()
    at = -1
    for at, frame in enumerate(found):
        if at >= limits.frames:
            raise HeadraceError(
                Code.TOO_LARGE,
                f"{param}: {path.name}: expected at most {limits.frames} frames (max_frames)",
                param=param,
            )
        if (at + 1) * width * height * 3 // 2 > limits.size_bytes:
            raise HeadraceError(
                Code.TOO_LARGE,
                f"{param}: {path.name}: its frames are larger than {limits.size_bytes} bytes together (frames_mb)",
                param=param,
            )
        yield Shot(
            converted(frame, width, height, reformatter), _alpha(frame, width, height), (frame.width, frame.height)
        )
    if at < 0:
        raise HeadraceError(Code.INVALID_REQUEST, f"{param}: {path.name}: there is no picture in it", param=param)


def _frames(path: Path, limits: Limits, param: str) -> Iterator[av.VideoFrame]:
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in stills.SUFFIXES:
                # A link in a folder may not lead out of it either.
                if not file.resolve().is_relative_to(path.resolve()):
                    raise HeadraceError(
                        Code.FORBIDDEN, f"{param}: {file.name}: lies outside of its folder", param=param
                    )
                yield stills.decoded(file, param, limits.pixels)
    elif path.suffix.lower() in stills.SUFFIXES:
        yield stills.decoded(path, param, limits.pixels)
    elif path.suffix.lower() in _DEMUXERS:
        yield from _video(path, limits, param)
    else:
        raise HeadraceError(
            Code.INVALID_REQUEST,
            f"{param}: {path.name}: expected a folder, or one of {', '.join((*stills.SUFFIXES, *_DEMUXERS))}",
            param=param,
        )


def _video(path: Path, limits: Limits, param: str) -> Iterator[av.VideoFrame]:
    """Yield a video's frames at `FPS`: each tick gets the frame that is shown then."""
    try:
        # By the name's kind, and only files: a playlist must not make us open something else.
        options = {"max_pixels": str(limits.pixels), "protocol_whitelist": "file"}
        with av.open(str(path), format=_DEMUXERS[path.suffix.lower()], options=options) as container:
            if not container.streams.video:
                raise HeadraceError(Code.INVALID_REQUEST, f"{param}: {path.name}: has no video", param=param)
            stream = container.streams.video[0]
            codec = stream.codec_context
            if codec.width * codec.height > limits.pixels:
                raise HeadraceError(
                    Code.TOO_LARGE,
                    f"{param}: {path.name}: expected at most {limits.pixels} pixels (max_pixels),"
                    f" got {codec.width} x {codec.height}",
                    param=param,
                )
            # It may grow on the way, too.
            codec.options = {"max_pixels": str(limits.pixels)}
            codec.thread_count = 1
            last: av.VideoFrame | None = None
            tick = 0
            for number, frame in enumerate(container.decode(stream)):
                shown_s = frame.time if frame.pts is not None else number / FPS
                while last is not None and tick / FPS < shown_s:
                    yield last
                    tick += 1
                last = frame
            if last is not None:
                yield last
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be decoded"
        raise HeadraceError(
            Code.INVALID_REQUEST, f"{param}: {path.name}: no video, damaged or too large: {reason}", param=param
        ) from None


def _alpha(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.float32] | None:
    if not any(component.is_alpha for component in frame.format.components) and frame.format.name != "pal8":
        return None
    pixels: NDArray[Any] = frame.reformat(width, height, "rgba", threads=1).to_ndarray()
    alpha = pixels[..., 3].astype(np.float32) / np.float32(255)
    return None if alpha.min() >= 1.0 else alpha
