"""A prober's request: it names the backend that it must reach, whatever anybody thinks of that one now."""

from __future__ import annotations

import re
from typing import Final

from edge.endpoints.access import Caller
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["HEADER", "pin_of"]

HEADER: Final = "X-Headrace-Probe"
_BACKEND: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def pin_of(text: str, caller: Caller) -> str:
    """Return the backend that a probe must reach; empty = it is no probe.

    Args:
        text: the value of `X-Headrace-Probe`.
        caller: who asks; it needs an operator's key. Where no keys are demanded, whoever reaches this edge is one.

    Raises:
        HeadraceError: FORBIDDEN, or INVALID_REQUEST for what is no backend's name.
    """
    if not text:
        return ""
    if caller.claims is not None or (caller.key_id and not caller.tenant.operator):
        said = f"`{HEADER}` needs an operator's key (headrace keys tenant NAME --operator)."
        raise HeadraceError(Code.FORBIDDEN, said, param=HEADER)
    if _BACKEND.fullmatch(text) is None:
        raise HeadraceError(Code.INVALID_REQUEST, f"`{HEADER}` must be a backend's name.", param=HEADER)
    return text
