"""Squares around a face that moves: from the landmark files that SyncTalk_2D's preparation leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Crop", "crops"]

#: Left, top and side, in pixels of the avatar's picture.
Crop = tuple[int, int, int]
#: Points of a file that say where the square is: left from one, right from another, top from a third.
_LEFT: Final = 1
_RIGHT: Final = 31
_TOP: Final = 52
_LEAST: Final = 32
#: A file has 110 points of some 15 characters.
_MAX_BYTES: Final = 64 * 1024


def crops(folder: Path, sizes: list[tuple[int, int]], width: int, height: int) -> tuple[Crop, ...]:
    """Return the square of each frame. Reads files: not on an event loop.

    Args:
        folder: of files NUMBER.lms, a point `x y` in each line, in pixels of the template's own frames.
        sizes: width and height of those frames, in their order.
        width: of the avatar's picture.
        height: of the avatar's picture.

    Raises:
        HeadraceError: there are not as many files as frames, or one cannot be used.
    """
    files = sorted((file for file in folder.glob("*.lms") if file.stem.isdigit()), key=lambda file: int(file.stem))
    if len(files) != len(sizes):
        raise _wrong(
            folder.name,
            f"expected a file NUMBER.lms for each of the template's {len(sizes)} frames, got {len(files)}",
        )
    return tuple(_crop(file, size, width, height) for file, size in zip(files, sizes, strict=True))


def _crop(file: Path, size: tuple[int, int], width: int, height: int) -> Crop:
    if file.stat().st_size > _MAX_BYTES:
        raise _wrong(file.name, f"expected at most {_MAX_BYTES} bytes")
    try:
        points = [tuple(map(float, line.split())) for line in file.read_text(encoding="ascii").splitlines()]
        left, top, right = points[_LEFT][0], points[_TOP][1], points[_RIGHT][0]
    except (ValueError, IndexError, OSError):
        raise _wrong(file.name, f"expected at least {_TOP + 1} lines of two numbers") from None
    across, down = width / size[0], height / size[1]
    found = round(left * across), round(top * down), round((right - left) * across)
    x, y, side = found
    if side < _LEAST or x < 0 or y < 0 or x + side > width or y + side > height:
        raise _wrong(
            file.name,
            f"expected a square of at least {_LEAST} pixels inside of {width} x {height}, got {list(found)}",
        )
    return found


def _wrong(name: str, what: str) -> HeadraceError:
    return HeadraceError(Code.INVALID_REQUEST, f"landmarks: {name}: {what}", param="landmarks")
