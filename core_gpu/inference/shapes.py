"""What a model takes and gives: read from its file, and refused where we could not feed it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["EncoderShape", "ModelShape", "ShapeError", "shape_of"]

_TYPES: Final = {"tensor(float)": "float32", "tensor(float16)": "float16"}
#: A frame larger than this is a mistake, not a mouth.
_MAX_NUMBERS: Final = 64 * 1024 * 1024


class ShapeError(Exception):
    """A model has another interface than the server can serve; the message is one line."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shapes of one frame, without the batch.

    Args:
        visual: channels, height, width.
        audio: of one window.
        output: three channels, height, width.
        dtype: of the model's numbers: float32 or float16.
        batch: None = any; 1 = a frame at a time.
    """

    visual: tuple[int, ...]
    audio: tuple[int, ...]
    output: tuple[int, ...]
    dtype: str
    batch: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs, in the order in which they are given."""
        return ("input", "audio")


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Shapes of one window of an audio encoder, without the batch.

    Args:
        mel: one channel, mels, frames.
        output: one vector of features.
        name: of the input.
        dtype: of the model's numbers: float32 or float16.
        batch: None = any; 1 = a window at a time.
    """

    mel: tuple[int, ...]
    output: tuple[int, ...]
    name: str
    dtype: str
    batch: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs, in the order in which they are given."""
        return (self.name,)


def shape_of(session: Any) -> ModelShape | EncoderShape:
    """Return the shapes of a session's model: two inputs make a mouth, one makes an audio encoder.

    Raises:
        ShapeError: the inputs are others, sizes are open or too large, or types are others.
    """
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = session.get_outputs()
    if len(outputs) != 1:
        raise ShapeError(f"expected one output, got {len(outputs)}")
    if len(inputs) == 1:
        return _encoder(next(iter(inputs.values())), outputs[0])
    if set(inputs) != {"input", "audio"}:
        raise ShapeError(
            f"expected the inputs input and audio, or one of log-mel windows, got {', '.join(inputs) or 'none'}"
        )
    tensors = (inputs["input"], inputs["audio"], outputs[0])
    dtype = _dtype(tensors)
    visual, audio, output = (_fixed(one) for one in tensors)
    if len(visual) != 3:
        raise ShapeError(f"input: expected [N, channels, height, width], got {tensors[0].shape}")
    if len(output) != 3 or output[0] != 3:
        raise ShapeError(f"{tensors[2].name}: expected [N, 3, height, width], got {tensors[2].shape}")
    return ModelShape(visual, audio, output, dtype, _batch(tensors[0]))


def _encoder(mel: Any, features: Any) -> EncoderShape:
    dtype = _dtype((mel, features))
    taken, given = _fixed(mel), _fixed(features)
    if len(taken) != 3 or taken[0] != 1:
        raise ShapeError(f"{mel.name}: expected [N, 1, mels, frames], got {mel.shape}")
    if len(given) != 1:
        raise ShapeError(f"{features.name}: expected [N, features], got {features.shape}")
    return EncoderShape(taken, given, mel.name, dtype, _batch(mel))


def _dtype(tensors: tuple[Any, ...]) -> str:
    kinds = {str(_TYPES.get(one.type, one.type)) for one in tensors}
    if len(kinds) != 1 or (dtype := kinds.pop()) not in _TYPES.values():
        raise ShapeError("expected float32 throughout, or float16, got " + ", ".join(one.type for one in tensors))
    return dtype


def _batch(tensor: Any) -> int | None:
    batch = tensor.shape[0]
    if isinstance(batch, int) and batch != 1:
        raise ShapeError(f"{tensor.name}: a batch of exactly {batch} cannot be served: export it with 1, or with any")
    return batch if isinstance(batch, int) else None


def _fixed(tensor: Any) -> tuple[int, ...]:
    sizes = tuple(tensor.shape[1:])
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ShapeError(f"{tensor.name}: only the batch may be open, got {tensor.shape}")
    if math.prod(sizes) > _MAX_NUMBERS:
        raise ShapeError(f"{tensor.name}: at most {_MAX_NUMBERS} numbers a frame, got {math.prod(sizes)}")
    return sizes
