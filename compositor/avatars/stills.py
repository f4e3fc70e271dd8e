"""Image files: judged by their headers before anything is decoded, then decoded without forgiveness."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import av

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["SUFFIXES", "decoded", "measured"]

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
#: Start of frame: baseline, extended, progressive; not the differential and arithmetic ones.
_SOF: Final = (0xC0, 0xC1, 0xC2)
#: Markers without a length behind them.
_BARE: Final = (0x01, *range(0xD0, 0xD9))


def decoded(file: Path, param: str, max_pixels: int) -> av.VideoFrame:
    """Return the picture in a file.

    Args:
        file: PNG, JPEG or WebP.
        param: what named it, for messages.
        max_pixels: the most that are opened.

    Raises:
        HeadraceError: it cannot be read, is no whole picture, or a too large one.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _wrong(param, f"{file.name}: cannot be read: {error.strerror}") from None
    kind, width, height = measured(data, file.name, param)
    if width * height > max_pixels:
        raise HeadraceError(
            Code.TOO_LARGE,
            f"{param}: {file.name}: expected at most {max_pixels} pixels (max_pixels), got {width} x {height}",
            param=param,
        )
    codec = av.CodecContext.create(kind, "r")
    if not isinstance(codec, av.VideoCodecContext):
        raise TypeError(f"{kind} decodes no pictures")
    codec.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    codec.thread_count = 1
    try:
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except (av.FFmpegError, ValueError):
        frames = []
    if not frames or (frames[0].width, frames[0].height) != (width, height):
        raise _wrong(param, f"{file.name}: damaged: it cannot be decoded")
    return frames[0]


def measured(data: bytes, name: str, param: str) -> tuple[str, int, int]:
    """Return decoder, width and height of a file by its header, and see that its end is there.

    Raises:
        HeadraceError: it is of no known kind, or cut off.
    """
    found: tuple[str, tuple[int, int] | None, bool]
    if data.startswith(_PNG):
        found = "png", _png_size(data), b"IEND" in data[-16:]
    elif data.startswith(b"\xff\xd8"):
        found = "mjpeg", _jpeg_size(data), data.rstrip(b"\0").endswith(b"\xff\xd9")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = "webp", _webp_size(data), len(data) >= struct.unpack_from("<I", data, 4)[0] + 8
    else:
        raise _wrong(param, f"{name}: expected PNG, JPEG or WebP")
    kind, size, whole = found
    if size is None or not whole or not all(size):
        raise _wrong(param, f"{name}: cut off: its end is missing")
    return kind, *size


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _SOF:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    readers: dict[bytes, Callable[[], tuple[int, int]]] = {
        b"VP8X": lambda: (1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")),
        b"VP8 ": lambda: (
            struct.unpack_from("<H", data, 26)[0] & 0x3FFF,
            struct.unpack_from("<H", data, 28)[0] & 0x3FFF,
        ),
        b"VP8L": lambda: _vp8l_size(int.from_bytes(data[21:25], "little")),
    }
    reader = readers.get(data[12:16])
    return reader() if reader is not None and len(data) >= 30 else None


def _vp8l_size(bits: int) -> tuple[int, int]:
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _wrong(param: str, what: str) -> HeadraceError:
    return HeadraceError(Code.INVALID_REQUEST, f"{param}: {what}", param=param)
