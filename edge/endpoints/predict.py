"""Predictions of TensorFlow Serving: from its REST path and body to a call like every other."""

from __future__ import annotations

from collections.abc import Callable

from edge.protocol.predict.request import Target, target_of
from edge.protocol.request import Call, Operation

__all__ = ["prediction"]


def prediction(path: str) -> Callable[[bytes], Call] | None:
    """Return what makes a call of a body, or None where `path` is no prediction's.

    The body is read where it is made into tensors: only the model's own signature says what it must be.

    Args:
        path: as the client sent it, not percent-decoded.

    Raises:
        HeadraceError: INVALID_REQUEST; the version in the path is no number.
    """
    target = target_of(path)
    if target is None:
        return None
    _, _, rest = path.removeprefix("/v1/models/").partition("/")
    suffix = f"/{rest}" if rest else ":predict"
    return lambda body: _call(target, suffix, body)


def _call(target: Target, suffix: str, body: bytes) -> Call:
    return Call(
        operation=Operation.PREDICT,
        model=target.model,
        body=body,
        stream=False,
        n=1,
        wants_usage=False,
        continuous_usage=False,
        max_tokens=0,
        suffix=suffix,
    )
