"""What every video encoder here can do, and the ones that go through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from compositor.avatars.footage import FPS

__all__ = ["Encoded", "Encoder", "PyavEncoder", "Shape"]

_TICK: Final = Fraction(1, FPS)
#: BT.601 with 525 lines, as ffmpeg numbers it for matrix, primaries and transfer.
_BT601: Final = 6
#: A bitrate that is asked for is not to be exceeded: so much of it is aimed at.
_AIM: Final = 0.95


@dataclass(frozen=True, slots=True)
class Encoded:
    """One access unit.

    Args:
        data: as its codec has it.
        keyframe: whether it can be decoded without any other.
    """

    data: bytes
    keyframe: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What an encoder is opened for.

    Args:
        width: in pixels.
        height: in pixels.
        bitrate_bps: wanted on average.
        keyframe_ticks: the longest distance between keyframes.
    """

    width: int
    height: int
    bitrate_bps: int
    keyframe_ticks: int


class Encoder(Protocol):
    """Encodes one stream, on any thread, but on one at a time."""

    def encode(self, frame: av.VideoFrame, tick: int, *, key: bool) -> Encoded:
        """Encode one picture.

        Args:
            frame: I420; it may be overwritten afterwards.
            tick: its time, in ticks; rising.
            key: whether it must be a keyframe.
        """
        ...

    def retune(self, bitrate_bps: int) -> bool:
        """Aim at another bitrate from the next picture on; False = it cannot, and has to be opened anew."""
        ...

    def close(self) -> None:
        """Let go of its memory."""
        ...


class PyavEncoder:
    """An encoder of ffmpeg's, without any delay.

    Args:
        name: of ffmpeg's encoder.
        shape: what it is opened for.
        options: of that encoder.
        ceiling_bps: bitrates up to here can be had without opening it anew; 0 = none can.

    Raises:
        av.FFmpegError: it cannot be opened here.
    """

    def __init__(self, name: str, shape: Shape, options: Mapping[str, str], *, ceiling_bps: int = 0) -> None:
        codec = av.CodecContext.create(name, "w")
        if not isinstance(codec, av.VideoCodecContext):
            raise TypeError(f"{name} encodes no video")
        codec.width, codec.height, codec.pix_fmt = shape.width, shape.height, "yuv420p"
        codec.time_base, codec.framerate = _TICK, Fraction(FPS)
        codec.bit_rate = max(shape.bitrate_bps, ceiling_bps)
        codec.gop_size = shape.keyframe_ticks
        codec.max_b_frames = 0
        codec.thread_count = 1
        codec.color_range = ColorRange.MPEG
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT601
        codec.options = dict(options)
        codec.open()
        codec.bit_rate = int(shape.bitrate_bps * _AIM)
        self._codec: av.VideoCodecContext | None = codec
        self._ceiling_bps = ceiling_bps

    def encode(self, frame: av.VideoFrame, tick: int, *, key: bool) -> Encoded:
        """Encode one picture."""
        codec = self._codec
        if codec is None:
            raise RuntimeError("the encoder is closed")
        frame.pts, frame.time_base = tick, _TICK
        frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = codec.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"{codec.name} gave {len(packets)} packets for a picture: it delays")
        return Encoded(bytes(packets[0]), packets[0].is_keyframe)

    def retune(self, bitrate_bps: int) -> bool:
        """Aim at another bitrate from the next picture on; False = it cannot."""
        if self._codec is None or bitrate_bps > self._ceiling_bps:
            return False
        self._codec.bit_rate = int(bitrate_bps * _AIM)
        return True

    def close(self) -> None:
        """Let go of its memory."""
        self._codec = None
