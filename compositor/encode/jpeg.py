"""JPEG: for viewers without a video decoder, and as still files."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from compositor.encode.encoder import Encoded

__all__ = ["JpegFiles", "MjpegEncoder"]

_TICK: Final = Fraction(1, 25)


class JpegFiles:
    """Makes JPEG files of one size and quality; on one thread at a time.

    Args:
        width: in pixels.
        height: in pixels.
        quality: 1 to 100.
    """

    def __init__(self, width: int, height: int, quality: int) -> None:
        self._reformatter = VideoReformatter()
        # ffmpeg's scale is 2 (best) to 31: these are its places on the usual one.
        step = max(2, round(31 - 29 * (quality - 1) / 99))
        codec = av.CodecContext.create("mjpeg", "w")
        if not isinstance(codec, av.VideoCodecContext):
            raise TypeError("mjpeg encodes no video")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
        codec.time_base = _TICK
        codec.thread_count = 1
        codec.color_range = ColorRange.JPEG
        codec.options = {"qmin": str(step), "qmax": str(step), "huffman": "default"}
        codec.open()
        self._codec = codec
        self._count = 0

    def file(self, frame: av.VideoFrame) -> bytes:
        """Return a picture as a whole file; a JPEG's luma has the full range, a video's has not."""
        full = self._reformatter.reformat(
            frame,
            format="yuvj420p",
            src_colorspace=Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        full.pts, full.time_base = self._count, _TICK
        self._count += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(full))


class MjpegEncoder:
    """A JPEG file for each tick; every one is a keyframe, and none knows of a bitrate.

    Args:
        width: in pixels.
        height: in pixels.
        quality: 1 to 100.
    """

    def __init__(self, width: int, height: int, quality: int) -> None:
        self._files: JpegFiles | None = JpegFiles(width, height, quality)

    def encode(self, frame: av.VideoFrame, tick: int, *, key: bool) -> Encoded:
        """Encode one picture."""
        if self._files is None:
            raise RuntimeError("the encoder is closed")
        return Encoded(self._files.file(frame), keyframe=True)

    def retune(self, bitrate_bps: int) -> bool:
        """Take another bitrate: it makes no difference."""
        return True

    def close(self) -> None:
        """Let go of its memory."""
        self._files = None
