"""An attempt that was over before it began: the request cannot be put into the engine's words."""

from __future__ import annotations

from edge.streams.contracts import Ending, Outcome, Sink
from streamkit.wire.errors import HeadraceError

__all__ = ["Refused"]


class Refused:
    """Tells the sink at once; nothing is under way."""

    def __init__(self, sink: Sink, error: HeadraceError) -> None:
        sink.end(Outcome(ending=Ending.BROKEN, error=error, unfit=True))

    def pause(self) -> None:
        """Nothing to pause."""

    def resume(self) -> None:
        """Nothing to resume."""

    def cancel(self) -> None:
        """Nothing to give up."""
