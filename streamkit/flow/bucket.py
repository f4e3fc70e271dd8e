"""A token bucket: a rate with room for a burst, filled lazily, so an idle one costs nothing.

What is known only afterwards, such as the tokens of an answer, is charged when it is known: the bucket may go into
debt, lets nobody through while it is, and works the debt off at its rate.
"""

from __future__ import annotations

import math
from typing import Final

from streamkit.flow.clock import MONOTONIC, Clock

__all__ = ["TokenBucket"]

#: Far below one token: what rounding may hide when a caller comes back exactly after `retry_after_ms`.
_ROUNDING: Final = 1e-6


class TokenBucket:
    """Lets `rate_per_s` tokens through per second, and up to `burst` at once after a pause.

    Args:
        rate_per_s: tokens added per second; 0 adds none.
        burst: the most that the bucket holds; it starts full.
        clock: monotonic seconds.

    Raises:
        ValueError: the rate is negative or the burst not positive.
    """

    __slots__ = ("_burst", "_clock", "_filled_at", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: float, *, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._filled_at = clock()
        self._rate_per_s, self._burst = _checked(rate_per_s, burst)
        self._tokens = self._burst

    @property
    def rate_per_s(self) -> float:
        """Tokens added per second."""
        return self._rate_per_s

    @property
    def burst(self) -> float:
        """The most that the bucket holds."""
        return self._burst

    @property
    def tokens(self) -> float:
        """Tokens in the bucket now; below 0 = debt."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        return self._tokens

    def set_rate(self, rate_per_s: float, burst: float | None = None) -> None:
        """Change the rate from now on, and the burst if given; tokens above a smaller burst are lost.

        Raises:
            ValueError: the rate is negative or the burst not positive.
        """
        held = self.tokens
        self._rate_per_s, self._burst = _checked(rate_per_s, self._burst if burst is None else burst)
        self._tokens = min(self._burst, held)

    def try_take(self, count: float = 1) -> bool:
        """Take `count` tokens, or return False and take none."""
        held = self.tokens
        if count > held + _ROUNDING:
            return False
        self._tokens = max(0.0, held - count)
        return True

    def charge(self, count: float) -> None:
        """Take `count` tokens whether they are there or not; a negative count gives some back, up to the burst."""
        self._tokens = min(self._burst, self.tokens - count)

    @property
    def full_in_ms(self) -> int | None:
        """Milliseconds until the bucket is full if nobody takes any; None = never, its rate is 0."""
        missing = self._burst - self.tokens
        if missing <= _ROUNDING:
            return 0
        return math.ceil(missing / self._rate_per_s * 1000) if self._rate_per_s > 0 else None

    def retry_after_ms(self, count: float = 1) -> int | None:
        """Return milliseconds until `count` tokens will be there, if nobody else takes any.

        0 = they are there now; None = never: more than the burst, or the rate is 0.
        """
        missing = count - self.tokens
        if missing <= _ROUNDING:
            return 0
        if count > self._burst or self._rate_per_s <= 0:
            return None
        return math.ceil(missing / self._rate_per_s * 1000)


def _checked(rate_per_s: float, burst: float) -> tuple[float, float]:
    if rate_per_s < 0 or burst <= 0:
        raise ValueError(f"a bucket needs rate_per_s >= 0 and burst > 0, not {rate_per_s} and {burst}")
    return float(rate_per_s), float(burst)
