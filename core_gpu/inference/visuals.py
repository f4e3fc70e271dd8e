"""Frames that were registered once, so that a request carries 32 KB of audio instead of 2.4 MB of picture."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core_gpu.inference.encodings import BYTES, Array, decoded
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["VisualStore", "Visuals"]


@dataclass(frozen=True, slots=True)
class Visuals:
    """Registered frames of one shape.

    Args:
        ref: their name: it follows from their bytes and how those are meant.
        frames: [N, channels, height, width], as registered: float32, float16 or uint8.
    """

    ref: str
    frames: Array

    def picked(self, index: Sequence[int]) -> Array:
        """Return these frames as float32 0..1; their numbers were checked before."""
        found = self.frames[list(index)]
        if found.dtype == np.uint8:
            return found.astype(np.float32) * np.float32(1 / 255)
        return found.astype(np.float32, copy=False)


class VisualStore:
    """All registered frames: bounded in bytes, the ones used longest ago go first.

    Args:
        limit_bytes: the bound.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        #: Registrations that were dropped for room.
        self.dropped = 0
        self._held: OrderedDict[str, Visuals] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def register(self, data: bytes, encoding: int, shape: tuple[int, ...]) -> Visuals:
        """Keep frames and return them; the same bytes are kept once.

        Args:
            data: one frame after the other.
            encoding: FLOAT32, FLOAT16 or UINT8.
            shape: of one frame.

        Raises:
            HeadraceError: a field is wrong; the message names it and the limit.
        """
        if encoding not in BYTES:
            raise HeadraceError(
                Code.INVALID_REQUEST,
                f"encoding: expected FLOAT32, FLOAT16 or UINT8, got {encoding}",
                param="encoding",
            )
        size = BYTES[encoding] * int(np.prod(shape))
        if not data or len(data) % size:
            raise HeadraceError(
                Code.INVALID_REQUEST,
                f"frames: expected a multiple of {size} bytes ({' x '.join(map(str, shape))}), got {len(data)}",
                param="frames",
            )
        if len(data) > self.limit_bytes:
            raise HeadraceError(
                Code.TOO_LARGE, f"frames: at most {self.limit_bytes} bytes are kept, got {len(data)}", param="frames"
            )
        ref = hashlib.sha256(repr((encoding, shape)).encode() + data).hexdigest()[:32]
        if ref not in self._held:
            frames = decoded(data, encoding, (-1, *shape))
            if encoding != pb.UINT8 and not np.isfinite(frames).all():
                raise HeadraceError(Code.INVALID_REQUEST, "frames: expected finite numbers, got NaN", param="frames")
            while self.used_bytes + len(data) > self.limit_bytes:
                self._forget(next(iter(self._held)))
                self.dropped += 1
            self._held[ref] = Visuals(ref, frames)
            self.used_bytes += len(data)
        return self.get(ref)

    def get(self, ref: str) -> Visuals:
        """Return what was registered.

        Raises:
            HeadraceError: it is not here, or not any more.
        """
        found = self._held.get(ref)
        if found is None:
            raise HeadraceError(
                Code.NOT_FOUND, "visual_ref: not registered here, or dropped for room: register again",
                param="visual_ref",
            )  # fmt: skip
        self._held.move_to_end(ref)
        return found

    def drop(self, ref: str) -> bool:
        """Forget frames, and say whether they were there."""
        if ref not in self._held:
            return False
        self._forget(ref)
        return True

    def _forget(self, ref: str) -> None:
        self.used_bytes -= self._held.pop(ref).frames.nbytes
