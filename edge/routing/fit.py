"""Which candidates can take a kind of work at all: predictions go to TensorFlow Serving, all else elsewhere."""

from __future__ import annotations

import msgspec

from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.route import RouteAnswer

__all__ = ["fit"]

_PREDICTS = "tfserving"


def fit(answer: RouteAnswer, model: str, *, predict: bool) -> RouteAnswer:
    """Return the answer with the candidates that take this kind of work.

    Raises:
        HeadraceError: INVALID_REQUEST; none does.
    """
    fitting = tuple(one for one in answer.candidates if (one.engine == _PREDICTS) == predict)
    if len(fitting) == len(answer.candidates):
        return answer
    if fitting:
        return msgspec.structs.replace(answer, candidates=fitting)
    if predict:
        text = f"The model {model!r} takes no predictions: its backends are no TensorFlow Serving."
    else:
        text = f"The model {model!r} takes predictions only: POST /v1/models/{model}:predict."
    raise HeadraceError(Code.INVALID_REQUEST, text, param="model")
