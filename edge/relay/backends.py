"""What this edge keeps of each backend: connections, permits, breaker, counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from edge.protocol.request import PROBE
from edge.sources.engine import EngineLimits
from edge.sources.link import Link, link_to
from edge.sources.pool import PoolSettings
from edge.streams.contracts import Source
from streamkit.flow.breaker import Breaker, BreakerPolicy, BreakerState
from streamkit.flow.budget import Account
from streamkit.flow.line import Line
from streamkit.flow.permits import Permits
from streamkit.flow.share import share
from streamkit.ops import catalog
from streamkit.ops.metrics import Histogram, Metrics
from streamkit.wire.errors import HeadraceError
from streamkit.wire.openai import Usage
from streamkit.wire.route import Candidate

__all__ = ["Backend", "Backends", "Evictable"]


class Evictable(Protocol):
    """A request under way at a backend, whose stream has not begun."""

    @property
    def priority(self) -> int:
        """1 (highest) to 9."""

    def evict(self, error: HeadraceError) -> None:
        """Give way, and tell the client so."""


class Backend:
    """One backend as this edge uses it."""

    __slots__ = ("breaker", "candidate", "metrics", "permits", "pool", "source", "unborn")

    def __init__(
        self,
        candidate: Candidate,
        *,
        source: Source,
        pool: Link,
        permits: Permits,
        breaker: Breaker,
        metrics: Metrics,
    ) -> None:
        self.candidate = candidate
        self.source = source
        self.pool = pool
        self.permits = permits
        self.breaker = breaker
        self.metrics = metrics
        #: Streams under way here that have had no event yet, oldest first.
        self.unborn: dict[Evictable, None] = {}

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.candidate.backend

    def least_important(self) -> Evictable | None:
        """Return the request that could give way with the least loss: the newest of the lowest class, or None.

        Where the engine works on after a close, evicting frees nothing.
        """
        if not self.candidate.capabilities.cancels_on_close.stream:
            return None
        return max(reversed(self.unborn), key=lambda one: one.priority, default=None)

    def count_first(self, operation: str, model: str, seconds: float) -> None:
        """Count the time to an attempt's first event."""
        labels = (operation, self.candidate.engine, model, self.name)
        self.metrics.histogram(catalog.ATTEMPT_FIRST_CHUNK, *labels).observe(seconds)

    def chunks(self, operation: str, model: str) -> Histogram:
        """Return the series of the gaps between the events of attempts here; see `Pace`."""
        labels = (operation, self.candidate.engine, model, self.name)
        return self.metrics.histogram(catalog.ATTEMPT_PER_CHUNK, *labels)

    def count(
        self, operation: str, model: str, outcome: str, why: str, seconds: float | None, usage: Usage | None
    ) -> None:
        """Count an attempt's end.

        Args:
            operation: what was asked; of a probe, which is no work, only times are counted, under its own name.
            model: by the engine's name for it.
            outcome: `done`, `failed` or `cancelled`.
            why: of a failed one, in a word.
            seconds: since the request was sent; None = it never was.
            usage: tokens by the engine's own figures.
        """
        metrics, name = self.metrics, self.name
        probe = operation == PROBE
        if not probe:
            metrics.counter(catalog.ATTEMPTS, name, outcome).value += 1
        labels = (operation, self.candidate.engine, model, name)
        if seconds is not None:
            kind = why or ("" if outcome == "done" else outcome)
            metrics.histogram(catalog.ATTEMPT_DURATION, *labels, kind).observe(seconds)
        if usage is not None and not probe:
            metrics.histogram(catalog.TOKEN_USAGE, *labels, "input").observe(usage.prompt_tokens)
            metrics.histogram(catalog.TOKEN_USAGE, *labels, "output").observe(usage.completion_tokens or 0)


class Backends:
    """All backends that route answers have named, made at first use and kept.

    Args:
        pool_settings: for connections.
        limits: on what engines may send.
        policy: of the breakers.
        answers: the memory account that whole answers are charged to.
        line: where requests wait for a permit of any of them.
        metrics: where everything is counted.
        on_breaker: told when a breaker changes.
    """

    def __init__(
        self,
        *,
        pool_settings: PoolSettings,
        limits: EngineLimits,
        policy: BreakerPolicy,
        answers: Account,
        line: Line,
        metrics: Metrics,
        on_breaker: Callable[[str, BreakerState], None],
    ) -> None:
        self._pool_settings = pool_settings
        self._limits = limits
        self._policy = policy
        self._answers = answers
        self._line = line
        self._metrics = metrics
        self._on_breaker = on_breaker
        self._made: dict[str, Backend] = {}
        # What an engine's read brings is written in the same call (edge.streams.pace).
        metrics.derive(catalog.STREAM_GAP, catalog.ATTEMPT_PER_CHUNK, "gen_ai_request_model")
        metrics.watch(catalog.ATTEMPTS_INFLIGHT, self._inflight)
        metrics.watch(catalog.BREAKER_OPEN, self._open_breakers)
        metrics.watch(catalog.UPSTREAM_CONNECTIONS, self._connections)

    def of(self, candidate: Candidate) -> Backend:
        """Return the backend of a candidate, with the candidate's own figures put into force."""
        limit = share(candidate.max_inflight, candidate.live_edges)
        made = self._made.get(candidate.backend)
        if made is None:
            pool = self._link(candidate)
            name = candidate.backend
            made = self._made[name] = Backend(
                candidate,
                source=pool.source(candidate),
                pool=pool,
                permits=Permits(limit),
                breaker=Breaker(self._policy, on_change=lambda state: self._on_breaker(name, state)),
                metrics=self._metrics,
            )
            self._line.watch(made.permits)
        elif made.candidate is not candidate:
            before, made.candidate = made.candidate, candidate
            if before.url != candidate.url:
                made.pool.close()
                made.pool = self._link(candidate)
            made.source = made.pool.source(candidate)
            made.permits.set_limit(limit)
        return made

    def inflight(self, candidate: Candidate) -> float:
        """Return this edge's requests at a candidate now."""
        made = self._made.get(candidate.backend)
        return float(made.permits.in_use) if made is not None else 0.0

    def inflight_by_name(self) -> dict[str, int]:
        """Return requests in flight by backend name, for the edge's report to control."""
        return {name: backend.permits.in_use for name, backend in self._made.items()}

    def close(self) -> None:
        """Close idle connections."""
        for backend in self._made.values():
            backend.pool.close()

    def _link(self, candidate: Candidate) -> Link:
        return link_to(candidate, self._pool_settings, self._limits, self._answers)

    def _inflight(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(backend.permits.in_use)) for name, backend in self._made.items()]

    def _open_breakers(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(backend.breaker.state is BreakerState.OPEN)) for name, backend in self._made.items()]

    def _connections(self) -> Iterable[tuple[tuple[str, ...], float]]:
        for name, backend in self._made.items():
            yield (name, "idle"), float(backend.pool.idle)
            yield (name, "active"), float(backend.pool.active)
