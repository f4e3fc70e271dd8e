"""What this edge keeps of each backend: connections, permits, breaker, counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge.sources.engine import EngineLimits, EngineSource
from edge.sources.pool import Pool, PoolSettings
from edge.streams.contracts import Source
from streamkit.flow.breaker import Breaker, BreakerPolicy, BreakerState
from streamkit.flow.budget import Account
from streamkit.flow.permits import Permits
from streamkit.flow.share import share
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.openai import Usage
from streamkit.wire.route import Candidate

__all__ = ["Backend", "Backends"]


class Backend:
    """One backend as this edge uses it."""

    __slots__ = ("breaker", "candidate", "metrics", "permits", "pool", "source")

    def __init__(
        self,
        candidate: Candidate,
        *,
        source: Source,
        pool: Pool,
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

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.candidate.backend

    def count_first(self, operation: str, seconds: float) -> None:
        """Count the time to an attempt's first event."""
        series = self.metrics.histogram(catalog.ATTEMPT_FIRST_CHUNK, operation, self.candidate.model, self.name)
        series.observe(seconds)

    def count(self, operation: str, outcome: str, seconds: float | None, usage: Usage | None) -> None:
        """Count an attempt's end.

        Args:
            operation: what was asked.
            outcome: `done`, `failed` or `cancelled`.
            seconds: since the request was sent; None = it never was.
            usage: tokens by the engine's own figures.
        """
        metrics, name, model = self.metrics, self.name, self.candidate.model
        metrics.counter(catalog.ATTEMPTS, name, outcome).value += 1
        if seconds is not None:
            metrics.histogram(catalog.ATTEMPT_DURATION, operation, model, name, outcome).observe(seconds)
        if usage is not None:
            metrics.counter(catalog.TOKENS, model, name, "input").value += usage.prompt_tokens
            metrics.counter(catalog.TOKENS, model, name, "output").value += usage.completion_tokens or 0


class Backends:
    """All backends that route answers have named, made at first use and kept.

    Args:
        pool_settings: for connections.
        limits: on what engines may send.
        policy: of the breakers.
        answers: the memory account that whole answers are charged to.
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
        metrics: Metrics,
        on_breaker: Callable[[str, BreakerState], None],
    ) -> None:
        self._pool_settings = pool_settings
        self._limits = limits
        self._policy = policy
        self._answers = answers
        self._metrics = metrics
        self._on_breaker = on_breaker
        self._made: dict[str, Backend] = {}
        metrics.watch(catalog.ATTEMPTS_INFLIGHT, self._inflight)
        metrics.watch(catalog.BREAKER_OPEN, self._open_breakers)
        metrics.watch(catalog.UPSTREAM_CONNECTIONS, self._connections)

    def of(self, candidate: Candidate) -> Backend:
        """Return the backend of a candidate, with the candidate's own figures put into force."""
        limit = share(candidate.max_inflight, candidate.live_edges)
        made = self._made.get(candidate.backend)
        if made is None:
            pool = Pool(candidate.url, self._pool_settings)
            name = candidate.backend
            made = self._made[name] = Backend(
                candidate,
                source=EngineSource(candidate, pool, self._limits, self._answers),
                pool=pool,
                permits=Permits(limit),
                breaker=Breaker(self._policy, on_change=lambda state: self._on_breaker(name, state)),
                metrics=self._metrics,
            )
        elif made.candidate is not candidate:
            if made.candidate.url != candidate.url:
                made.pool.close()
                made.pool = Pool(candidate.url, self._pool_settings)
            made.source = EngineSource(candidate, made.pool, self._limits, self._answers)
            made.candidate = candidate
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

    def _inflight(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(backend.permits.in_use)) for name, backend in self._made.items()]

    def _open_breakers(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((name,), float(backend.breaker.state is BreakerState.OPEN)) for name, backend in self._made.items()]

    def _connections(self) -> Iterable[tuple[tuple[str, ...], float]]:
        for name, backend in self._made.items():
            yield (name, "idle"), float(backend.pool.idle)
            yield (name, "active"), float(backend.pool.active)
