"""What one tenant, or any other payer, may use: requests and tokens for each minute, and streams at a time.

Several processes that do not ask each other each enforce their part (`parts`), so a limit holds while nothing else
answers; it is as exact as work is evenly spread over them. A burst of a few seconds' worth may come at once after a
pause; each part has room for one request at least, so limits of a few requests for each part are coarse.

Tokens are charged by an estimate when a request begins and corrected when its usage is known. A request goes through
while its token bucket is above zero, however large it is: the debt it leaves is worked off before the next one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from streamkit.flow.bucket import TokenBucket
from streamkit.flow.clock import MONOTONIC, Clock

__all__ = ["Limits", "Quota", "Reading", "Refusal"]

Kind = Literal["requests", "tokens"]


class Limits(NamedTuple):
    """The figures; 0 = no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_streams: int = 0


class Refusal(NamedTuple):
    """Why a request may not begin."""

    limit: Literal["requests", "tokens", "streams"]
    #: When one could; None = nobody knows, as with streams.
    retry_after_ms: int | None


class Reading(NamedTuple):
    """Where one rate stands."""

    kind: Kind
    per_minute: int  #: the whole limit, of all parts together
    remaining: int  #: what this part lets through at once now
    full_in_ms: int  #: until this part has its whole burst again


class Quota:
    """One payer's use of one part of its limits.

    Args:
        limits: of all parts together.
        parts: how many enforce them.
        burst_ms: how much of a minute's allowance may be used at once, in milliseconds.
        clock: monotonic seconds.
    """

    __slots__ = ("_burst_s", "_clock", "_limits", "_parts", "_requests", "_streams", "_tokens")

    def __init__(self, limits: Limits, *, parts: int = 1, burst_ms: int = 5_000, clock: Clock = MONOTONIC) -> None:
        self._burst_s = burst_ms / 1000
        self._clock = clock
        self._streams = 0
        self._requests: TokenBucket | None = None
        self._tokens: TokenBucket | None = None
        self._limits = limits
        self._parts = parts
        self.change(limits, parts=parts)

    @property
    def streams(self) -> int:
        """Streams that have begun and not ended."""
        return self._streams

    def change(self, limits: Limits, *, parts: int) -> None:
        """Put other figures into force; what is in the buckets, debt too, stays as far as it fits.

        Raises:
            ValueError: a negative limit, or no part.
        """
        if min(limits) < 0 or parts < 1:
            raise ValueError(f"limits cannot be negative and need one part at least: {limits} parts={parts}")
        self._limits, self._parts = limits, parts
        self._requests = self._bucket(self._requests, limits.requests_per_minute)
        self._tokens = self._bucket(self._tokens, limits.tokens_per_minute)

    def begin(self) -> Refusal | None:
        """Count one request and one stream in; or return why not, and count nothing."""
        limit = self._limits.max_streams
        if limit and self._streams >= -(-limit // self._parts):
            return Refusal("streams", None)
        # Any request needs the bucket above zero; how much it takes is charged when there is an estimate.
        if self._tokens is not None and (wait_ms := self._tokens.retry_after_ms(1)) != 0:
            return Refusal("tokens", wait_ms)
        if self._requests is not None and not self._requests.try_take():
            return Refusal("requests", self._requests.retry_after_ms())
        self._streams += 1
        return None

    def charge(self, tokens: int) -> None:
        """Charge tokens, known or estimated; a negative number corrects an estimate that was too high."""
        if self._tokens is not None:
            self._tokens.charge(tokens)

    def end(self) -> None:
        """Count one stream out.

        Raises:
            ValueError: none had begun.
        """
        if not self._streams:
            raise ValueError("no stream has begun that could end")
        self._streams -= 1

    def readings(self) -> tuple[Reading, ...]:
        """Return where the rates stand; those without a limit are left out."""
        found: list[Reading] = []
        if self._requests is not None:
            found.append(_reading("requests", self._limits.requests_per_minute, self._requests))
        if self._tokens is not None:
            found.append(_reading("tokens", self._limits.tokens_per_minute, self._tokens))
        return tuple(found)

    def _bucket(self, made: TokenBucket | None, per_minute: int) -> TokenBucket | None:
        if not per_minute:
            return None
        rate_per_s = per_minute / 60 / self._parts
        burst = max(1.0, rate_per_s * self._burst_s)
        if made is None:
            return TokenBucket(rate_per_s, burst, clock=self._clock)
        made.set_rate(rate_per_s, burst)
        return made


def _reading(kind: Kind, per_minute: int, bucket: TokenBucket) -> Reading:
    return Reading(kind, per_minute, max(0, int(bucket.tokens + 1e-6)), bucket.full_in_ms or 0)
