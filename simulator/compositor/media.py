"""A face of a few rectangles, and its voice: drawn, hummed, and encoded by PyAV as the compositor's would be.

The mouth is as bright as the voice is loud in the same tick, so a test can hold one against the other.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["FPS", "HEIGHT", "WIDTH", "Pictures", "Voice"]

WIDTH: Final = 320
HEIGHT: Final = 240
FPS: Final = 25
RATE: Final = 48_000
TICK: Final = RATE // FPS
_PACKET: Final = 960
#: Rows and columns of the mouth, in pixels of the luma plane.
MOUTH: Final = (slice(150, 190), slice(110, 210))
_SILENT: Final = 40
_LOUD: Final = 235
_HUM_HZ: Final = 220.0
#: Syllables.
_SYLLABLE_S: Final = 0.26
_WORD_S: Final = 0.71

Samples = NDArray[np.int16]

_ENCODERS: Final = {
    pb.H264: ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "forced-idr": "1"}),
    pb.VP8: ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "error-resilient": "1"}),
    pb.MJPEG: ("mjpeg", {}),
}


class Pictures:
    """One session's pictures in one codec."""

    def __init__(self, codec: int) -> None:
        name, options = _ENCODERS[codec]  # type: ignore[index]
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, av.VideoCodecContext)  # noqa: S101  the stubs cannot tell
        context.width, context.height = WIDTH, HEIGHT
        self._format = context.pix_fmt = "yuvj420p" if codec == pb.MJPEG else "yuv420p"
        context.time_base = Fraction(1, FPS)
        context.framerate = Fraction(FPS, 1)
        context.bit_rate = 400_000
        context.gop_size = 1_000
        context.max_b_frames = 0
        context.thread_count = 1
        context.options = dict(options)
        self._context = context
        self._codec = codec
        self._count = 0

    def encode(self, luma: NDArray[np.uint8], *, keyframe: bool) -> pb.Video:
        """Return a picture as one access unit.

        Args:
            luma: uint8 [HEIGHT, WIDTH].
            keyframe: make it one.
        """
        planes = np.concatenate([luma, np.full((HEIGHT // 2, WIDTH), 128, dtype=np.uint8)])
        frame = av.VideoFrame.from_ndarray(planes, format=self._format)
        frame.pts = self._count
        frame.time_base = Fraction(1, FPS)
        if keyframe or not self._count:
            frame.pict_type = av.video.frame.PictureType.I
        self._count += 1
        packets = self._context.encode(frame)
        data = b"".join(map(bytes, packets))
        return pb.Video(
            codec=self._codec,  # type: ignore[arg-type]
            data=data,
            keyframe=self._codec == pb.MJPEG or any(packet.is_keyframe for packet in packets),
        )


def picture(level: float, number: int) -> NDArray[np.uint8]:
    """Return a face as luma, uint8 [HEIGHT, WIDTH].

    Args:
        level: of the voice, 0 to 1.
        number: of the tick; a bar below moves with it.
    """
    luma = np.full((HEIGHT, WIDTH), 90, dtype=np.uint8)
    luma[30:220, 70:250] = 150
    for left in (105, 185):
        luma[80:100, left : left + 30] = 30
    luma[MOUTH] = round(_SILENT + (_LOUD - _SILENT) * min(1.0, max(0.0, level)))
    at = number * 8 % (WIDTH - 16)
    luma[228:236, at : at + 16] = 220
    return luma


class Voice:
    """One session's sound, in Opus."""

    def __init__(self) -> None:
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, av.AudioCodecContext)  # noqa: S101  as above
        context.sample_rate = RATE
        context.layout = "mono"
        context.format = av.AudioFormat("s16")
        context.bit_rate = 32_000
        context.time_base = Fraction(1, RATE)
        context.options = {"application": "lowdelay", "frame_duration": "20"}
        self._context = context
        self._samples = 0

    def encode(self, samples: Samples) -> list[pb.Audio]:
        """Return the packets of one tick.

        Args:
            samples: int16 [TICK].
        """
        found: list[pb.Audio] = []
        for at in range(0, TICK, _PACKET):
            frame = av.AudioFrame.from_ndarray(samples[at : at + _PACKET].reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = RATE
            frame.pts = self._samples
            frame.time_base = Fraction(1, RATE)
            data = b"".join(map(bytes, self._context.encode(frame)))
            if data:
                found.append(pb.Audio(data=data, pts=self._samples, samples=_PACKET))
            self._samples += _PACKET
        return found

    def skip(self) -> None:
        """A tick without sound passes."""
        self._samples += TICK


def hum(tick: int, ticks: int) -> Samples:
    """Return the voice in tick `tick` of an utterance of `ticks`: int16 [TICK], a syllable every quarter second."""
    at = tick * TICK + np.arange(TICK)
    seconds = at / RATE
    # Never the same twice in a second, so that picture and sound fit together at one place only.
    envelope = 0.5 - 0.3 * np.cos(2 * math.pi * seconds / _SYLLABLE_S) - 0.2 * np.cos(2 * math.pi * seconds / _WORD_S)
    envelope *= np.clip((ticks * TICK - at) / 480, 0, 1)
    samples: Samples = (envelope * np.sin(2 * math.pi * _HUM_HZ * at / RATE) * 16_000).astype(np.int16)
    return samples


def level_of(samples: Samples) -> float:
    """Return how loud a tick is, 0 to 1."""
    if not len(samples):
        return 0.0
    return min(1.0, float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) / 11_000)


def mono(pcm: bytes, rate: int, channels: int) -> Samples:
    """Return sound at 48 kHz, one channel, by taking the nearest sample."""
    samples: Samples = np.frombuffer(pcm, dtype="<i2")[::channels].astype(np.int16)
    at = np.arange(len(samples) * RATE // rate) * rate // RATE
    found: Samples = samples[at]
    return found
