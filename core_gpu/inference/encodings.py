"""Numbers 0..1 on the wire: float32, float16, uint8 or JPEG."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import numpy as np

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["BYTES", "Array", "decoded", "encoded", "jpeg_problem"]

Array = np.ndarray[Any, np.dtype[Any]]
#: Bytes of a number as it travels; JPEG has no fixed size.
BYTES: Final[dict[int, int]] = {pb.FLOAT32: 4, pb.FLOAT16: 2, pb.UINT8: 1}
_TIME_BASE: Final = Fraction(1, 25)
_TYPES: Final[dict[int, str]] = {pb.FLOAT32: "<f4", pb.FLOAT16: "<f2", pb.UINT8: "u1"}


def decoded(data: bytes, encoding: int, shape: tuple[int, ...]) -> Array:
    """Return raw bytes as an array of `shape` without copying; uint8 stays 0..255."""
    return np.frombuffer(data, dtype=_TYPES[encoding]).reshape(shape)


def encoded(frame: Array, encoding: int, *, quality: int, channels: str) -> bytes:
    """Return one frame of shape [3, height, width] as it travels.

    Args:
        frame: numbers 0..1; others are cut off by uint8 and JPEG.
        encoding: of the enum `Encoding`.
        quality: of a JPEG, 1 to 100.
        channels: `rgb` or `bgr`: what the three are.
    """
    if encoding == pb.FLOAT32:
        return np.ascontiguousarray(frame, dtype="<f4").tobytes()
    if encoding == pb.FLOAT16:
        return frame.astype("<f2").tobytes()
    pixels = (np.clip(frame, 0.0, 1.0) * np.float32(255) + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0)
    if encoding == pb.UINT8:
        return pixels.tobytes()
    return _jpeg(pixels[..., ::-1] if channels == "bgr" else pixels, quality)


def jpeg_problem() -> HeadraceError | None:
    """Return why there is no JPEG here, or None."""
    try:
        import av  # noqa: F401, PLC0415  large, and only JPEG needs it
    except ImportError:
        return HeadraceError(
            Code.INVALID_REQUEST,
            "output_encoding: JPEG needs a package that this server lacks: pip install 'headrace[compositor]'",
            param="output_encoding",
        )
    return None


def _jpeg(pixels: Array, quality: int) -> bytes:
    import av  # noqa: PLC0415  as above

    height, width, _ = pixels.shape
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
    codec.thread_count = 1
    # ffmpeg's scale is 2 (best) to 31: these are its places on the usual one.
    step = max(2, round(31 - 29 * (quality - 1) / 99))
    codec.options = {"qmin": str(step), "qmax": str(step), "strict": "unofficial"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = frame.reformat(format="yuvj420p")
    frame.time_base = codec.time_base = _TIME_BASE
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
