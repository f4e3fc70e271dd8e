"""What the model sees of a template: each frame's face, and the same with the mouth hidden."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from compositor.avatars.clip import Clip
from compositor.avatars.landmarks import Crop
from compositor.picture.i420 import rgb_of
from compositor.picture.region import MODEL_SIDE

__all__ = ["visuals"]

_CROP_SIDE = 328
_MARGIN = 4
#: Rows and columns that the second picture hides (SyncTalk_2D: a filled rectangle at 5, 5 of 310 by 305).
_HIDDEN = (slice(5, 310), slice(5, 315))


def visuals(clip: Clip, crops: Sequence[Crop], channels: str, frames: range) -> bytes:
    """Return frames as the inference server keeps them: uint8, planes, six for each frame. Not on an event loop.

    Args:
        clip: the template in front of its own background.
        crops: squares around the face: one for each frame, or one for all.
        channels: `rgb` or `bgr`.
        frames: which.
    """
    reformatter, scaler = VideoReformatter(), VideoReformatter()
    out = np.empty((len(frames), 6, MODEL_SIDE, MODEL_SIDE), np.uint8)
    for at, number in enumerate(frames):
        left, top, side = crops[number % len(crops)]
        whole = rgb_of(clip.frames[number], clip.width, clip.height, channels=channels, reformatter=reformatter)
        face = _scaled(np.ascontiguousarray(whole[top : top + side, left : left + side]), scaler)
        out[at, :3] = face.transpose(2, 0, 1)
        out[at, 3:] = out[at, :3]
        out[at, 3:, _HIDDEN[0], _HIDDEN[1]] = 0
    return out.tobytes()


def _scaled(square: NDArray[np.uint8], scaler: VideoReformatter) -> NDArray[np.uint8]:
    if square.shape[0] != _CROP_SIDE:
        frame = av.VideoFrame.from_ndarray(square, format="rgb24")
        square = (
            scaler.reformat(frame, _CROP_SIDE, _CROP_SIDE, "rgb24", interpolation=Interpolation.BICUBIC, threads=1)
            .to_ndarray()
            .astype(np.uint8, copy=False)
        )
    inner = slice(_MARGIN, _CROP_SIDE - _MARGIN)
    return square[inner, inner]
