"""How long a microphone's ticks wait for the face: moves its ticks in time, little by little, until that is short.

The face ticks every 40 ms; a microphone's ticks are ready when its network and the models let them. Where the two
meet by chance a tick waits for 20 ms on average, and after a stall for as long as the stall took. Here the shortest
wait of the last seconds is brought to `SPARE_S`: what arrives late as often as these seconds saw is still in time,
and nothing waits longer than that takes. A microphone whose clock runs fast or slow is followed as well.

No task and no clock in here.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from compositor.session.timeline import TICK_S

__all__ = ["MOST_S", "SPARE_S", "Phase"]

#: The shortest wait that is aimed at.
SPARE_S: Final = 0.002
#: A tick is moved by so much at most: 2.5 % of it, which a receiver's jitter buffer evens out unheard.
MOST_S: Final = 0.001
#: Ticks that are remembered, and those that must have been seen before anything moves.
_MEMORY: Final = 10 * 25
_FEW: Final = 10


class Phase:
    """One session's ticks against those of its microphone."""

    def __init__(self) -> None:
        #: How long each would have waited had nothing ever been moved, in seconds.
        self._waits: deque[float] = deque(maxlen=_MEMORY)
        #: By how much what follows was moved since.
        self._earlier_s = 0.0

    def shown(self, waited_s: float) -> float:
        """Return by how much all that follows is to begin earlier, in seconds; below 0 = later.

        Args:
            waited_s: from when the tick was ready until it was due; below 0 = it was late, and in time all the same.
        """
        self._waits.append(waited_s + self._earlier_s)
        if len(self._waits) < _FEW:
            return 0.0
        shortest_s = min(self._waits) - self._earlier_s
        earlier_s = min(MOST_S, max(-MOST_S, shortest_s - SPARE_S))
        self._earlier_s += earlier_s
        return earlier_s

    def held(self) -> None:
        """Note that a tick went by with nothing to show: whatever follows waits for one tick longer."""
        self._earlier_s -= TICK_S
