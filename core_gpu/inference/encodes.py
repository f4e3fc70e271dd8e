"""`EncodeAudio` as a job: windows of a log-mel spectrogram in, a vector of features for each out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core_gpu.inference.encodings import Array, decoded
from core_gpu.inference.job import Job, sized, wrong
from core_gpu.inference.shapes import EncoderShape
from streamkit.wire.pb import inference_pb2 as pb

__all__ = ["EncodeJob", "check"]

_NUMBERS: Final[dict[int, str]] = {pb.FLOAT32: "float32", pb.FLOAT16: "float16"}
_HALF_MAX: Final = float(np.finfo(np.float16).max)


@dataclass(eq=False, slots=True, kw_only=True)
class EncodeJob(Job):
    """A request for features.

    Args:
        request: as it came.
        shape: of its model.
    """

    request: pb.EncodeAudioRequest
    shape: EncoderShape

    def read(self) -> tuple[Array] | None:
        """Return the windows as an array, or None with `problem` set."""
        mel = decoded(self.request.mel, self.request.mel_encoding, (self.size, *self.shape.mel))
        if not np.isfinite(mel).all():
            self.problem = wrong("mel", "expected finite numbers, got NaN or infinity")
            return None
        return (mel,)

    def packed(self, out: Array) -> list[bytes]:
        """Return each window's features as the request wants them."""
        if self.request.output_encoding == pb.FLOAT16:
            return [row.tobytes() for row in np.clip(out, -_HALF_MAX, _HALF_MAX).astype("<f2")]
        return [row.tobytes() for row in np.ascontiguousarray(out, dtype="<f4")]


def check(request: pb.EncodeAudioRequest, shape: EncoderShape, max_batch: int) -> None:
    """Check everything that needs no look at the numbers.

    Raises:
        HeadraceError: a field is wrong; the message names it and the limit.
    """
    size = request.batch_size or 1
    if not 1 <= size <= max_batch:
        raise wrong("batch_size", f"expected 1 to {max_batch}, got {request.batch_size}")
    for name, encoding in (("mel_encoding", request.mel_encoding), ("output_encoding", request.output_encoding)):
        if encoding not in _NUMBERS:
            known = pb.Encoding.Name(encoding) if encoding in pb.Encoding.values() else encoding
            raise wrong(name, f"expected FLOAT32 or FLOAT16, got {known}")
    sized("mel", request.mel, size, shape.mel, _NUMBERS[request.mel_encoding])
