"""A process that ends with the one that started it, so that a killed parent leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ["leave_with"]

_PR_SET_PDEATHSIG: Final = 1


def leave_with(parent: int | None) -> None:
    """Have SIGTERM sent to this process when `parent` ends without a word; Linux only, None = never."""
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
