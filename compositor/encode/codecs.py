"""Which codecs there are here, and opening one."""

from __future__ import annotations

import contextlib
from typing import Final

import av

from compositor.encode.encoder import Encoder, PyavEncoder, Shape
from compositor.encode.jpeg import MjpegEncoder
from compositor.settings import CompositorSettings
from streamkit.wire.pb import compositor_pb2 as pb

__all__ = ["NAMES", "Codecs"]

#: As settings and metrics call them.
NAMES: Final[dict[int, str]] = {pb.H264: "h264", pb.VP8: "vp8", pb.VP9: "vp9", pb.MJPEG: "mjpeg"}
_NUMBERS: Final = {name: number for number, name in NAMES.items()}
#: How far a bitrate may be raised in place. x264 follows a new one at once if its buffer model was made for the
#: highest one from the beginning.
_HEADROOM: Final = 2
#: For looking whether an encoder opens at all.
_PROBE: Final = Shape(320, 320, 300_000, 250)


class Codecs:
    """The encoders of this machine.

    Args:
        settings: which are wanted, and how.
    """

    def __init__(self, settings: CompositorSettings) -> None:
        self._settings = settings
        self._h264 = "libx264"
        if settings.avc_encoder != "x264" and self._opens_nvenc():
            self._h264 = "h264_nvenc"
        #: In the order of the settings; those that do not open here are left out.
        self.available: tuple[int, ...] = tuple(
            number for number in (_NUMBERS[name] for name in settings.codecs) if self._opens(number)
        )

    @property
    def h264_encoder(self) -> str:
        """What encodes H.264, by ffmpeg's name."""
        return self._h264

    def open(self, codec: int, shape: Shape) -> Encoder:
        """Open an encoder.

        Raises:
            av.FFmpegError: it cannot be opened.
        """
        if codec == pb.MJPEG:
            return MjpegEncoder(shape.width, shape.height, self._settings.mjpeg_quality)
        if codec == pb.H264:
            return self._nvenc(shape) if self._h264 == "h264_nvenc" else self._x264(shape)
        return self._vpx("libvpx" if codec == pb.VP8 else "libvpx-vp9", shape)

    def _x264(self, shape: Shape) -> Encoder:
        ceiling = shape.bitrate_bps * _HEADROOM
        options = {
            "preset": self._settings.avc_preset,
            "tune": "zerolatency",
            "profile": "baseline",
            # A forced keyframe is an IDR, nothing else is one before its time.
            "forced-idr": "1",
            "sc_threshold": "0",
            "maxrate": str(ceiling),
            # Half a second of what is wanted: so much a keyframe may take from the pictures after it.
            "bufsize": str(shape.bitrate_bps // 2),
            # sliced-threads would come with zerolatency.
            "x264-params": "sliced-threads=0:threads=1:scenecut=0:open-gop=0",
        }
        return PyavEncoder("libx264", shape, options, ceiling_bps=ceiling)

    def _nvenc(self, shape: Shape) -> Encoder:
        # Untested here: it needs a GPU with an encoder (not H100, A100, B100).
        options = {
            "preset": "p3", "tune": "ull", "profile": "baseline", "zerolatency": "1", "delay": "0", "rc": "cbr",
            "forced-idr": "1", "no-scenecut": "1", "bf": "0",
        }  # fmt: skip
        return PyavEncoder("h264_nvenc", shape, options)

    def _vpx(self, name: str, shape: Shape) -> Encoder:
        options = {
            "deadline": "realtime",
            # The fastest: half the time of 8, and as like the picture (ADR 0019).
            "cpu-used": "16",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "error-resilient": "default",
            "static-thresh": "1",
            "minrate": str(shape.bitrate_bps),
            "maxrate": str(shape.bitrate_bps),
            "bufsize": str(shape.bitrate_bps),
            "qmin": "4",
            "qmax": "56",
        }
        if name == "libvpx-vp9":
            del options["static-thresh"]
            options |= {"cpu-used": "8", "row-mt": "0", "aq-mode": "3"}
        return PyavEncoder(name, shape, options)

    def _opens(self, codec: int) -> bool:
        with contextlib.suppress(av.FFmpegError, ValueError):
            self.open(codec, _PROBE).close()
            return True
        return False

    def _opens_nvenc(self) -> bool:
        with contextlib.suppress(av.FFmpegError, ValueError):
            self._nvenc(_PROBE).close()
            return True
        return False
