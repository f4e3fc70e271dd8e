"""What all sessions share of the machine: its threads, its encoders, the loops that they made."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from compositor.encode.codecs import Codecs
from compositor.encode.loops import Loops
from compositor.settings import CompositorSettings

__all__ = ["Workshop"]


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """Shared tools.

    Args:
        settings: the operator's.
        codecs: encoders of this machine.
        loops: idle faces, encoded.
        pool: bounded threads; a session has at most one piece of work in it.
    """

    settings: CompositorSettings
    codecs: Codecs
    loops: Loops
    pool: Executor
