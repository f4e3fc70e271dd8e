"""`InferBatch` as a job: pictures and audio windows in, mouth regions out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core_gpu.inference.encodings import Array, decoded, encoded, jpeg_problem
from core_gpu.inference.job import Job, sized, wrong
from core_gpu.inference.shapes import ModelShape
from core_gpu.inference.visuals import Visuals, VisualStore
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["MouthJob", "checked"]


@dataclass(eq=False, slots=True, kw_only=True)
class MouthJob(Job):
    """A request for mouths.

    Args:
        request: as it came.
        shape: of its model.
        visuals: where its frames are if it names them.
        channels: of the model's output, for JPEG.
    """

    request: pb.InferBatchRequest
    shape: ModelShape
    visuals: Visuals | None
    channels: str

    def read(self) -> tuple[Array, Array] | None:
        """Return picture and audio as arrays, or None with `problem` set."""
        shape = self.shape
        request = self.request
        audio = decoded(request.audio_features, pb.FLOAT32, (self.size, *shape.audio))
        if self.visuals is None:
            visual = decoded(request.visual_frames, pb.FLOAT32, (self.size, *shape.visual))
            if not np.isfinite(visual).all():
                self.problem = wrong("visual_frames", "expected finite numbers, got NaN or infinity")
                return None
        else:
            # Registered frames were checked then.
            visual = self.visuals.picked(request.visual_index)
        if not np.isfinite(audio).all():
            self.problem = wrong("audio_features", "expected finite numbers, got NaN or infinity")
            return None
        return visual, audio

    def packed(self, out: Array) -> list[bytes]:
        """Return the frames as the request wants them."""
        quality = self.request.jpeg_quality or 90
        return [
            encoded(frame, self.request.output_encoding, quality=quality, channels=self.channels) for frame in out
        ]


def checked(request: pb.InferBatchRequest, shape: ModelShape, store: VisualStore, max_batch: int) -> Visuals | None:
    """Check everything that needs no look at the numbers; return the registered frames if it names some.

    Raises:
        HeadraceError: a field is wrong; the message names it and the limit.
    """
    size = request.batch_size or 1
    if not 1 <= size <= max_batch:
        raise wrong("batch_size", f"expected 1 to {max_batch}, got {request.batch_size}")
    sized("audio_features", request.audio_features, size, shape.audio)
    if request.output_encoding not in pb.Encoding.values():
        raise wrong("output_encoding", f"expected one of {', '.join(pb.Encoding.keys())}")
    if not 0 <= request.jpeg_quality <= 100:
        raise wrong("jpeg_quality", f"expected 1 to 100, or 0 for 90, got {request.jpeg_quality}")
    if request.output_encoding == pb.JPEG and (missing := jpeg_problem()) is not None:
        raise missing
    if not request.visual_ref:
        sized("visual_frames", request.visual_frames, size, shape.visual)
        return None
    if request.visual_frames:
        raise wrong("visual_frames", "expected nothing beside visual_ref")
    visuals = store.get(request.visual_ref)
    if visuals.frames.shape[1:] != shape.visual:
        raise wrong("visual_ref", f"its frames are {visuals.frames.shape[1:]}, this model takes {shape.visual}")
    if len(request.visual_index) != size:
        raise wrong("visual_index", f"expected {size}, one for each frame, got {len(request.visual_index)}")
    for place, at in enumerate(request.visual_index):
        if not 0 <= at < len(visuals.frames):
            raise wrong(f"visual_index[{place}]", f"expected 0 to {len(visuals.frames) - 1}, got {at}")
    return visuals
