"""What an edge reaches engines by, put together: pools and breakers, the queue, retries, hedges, continuations."""

from __future__ import annotations

import logging
from typing import Final

from edge.relay.backends import Backends
from edge.relay.continuation import Continuations
from edge.relay.hedge import Hedging
from edge.relay.means import Means, RelaySettings
from edge.relay.runner import LegTimings
from edge.relay.waiting import WaitingRoom, WaitingSettings
from edge.settings import EdgeSettings
from streamkit.flow.breaker import BreakerPolicy, BreakerState
from streamkit.flow.budget import Budget
from streamkit.flow.line import Line
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import log
from streamkit.ops.events import EventFeed
from streamkit.ops.metrics import Metrics

__all__ = ["means_of"]

_LOG = logging.getLogger("headrace.edge")
#: Hedges for each request, and those of a quiet worker (design §3).
_HEDGES: Final = 0.05
_HEDGES_PER_S: Final = 0.2


def means_of(settings: EdgeSettings, memory: Budget, metrics: Metrics, feed: EventFeed) -> Means:
    """Return the means of every relay of one edge.

    Args:
        settings: the edge's.
        memory: charged with answers that are read whole, and with what continuations keep.
        metrics: where attempts are counted.
        feed: told of breakers that open and close.
    """

    def breaker_changed(backend: str, state: BreakerState) -> None:
        log.event(_LOG, "breaker", level=logging.WARNING, backend=backend, state=state.value)
        feed.publish("breaker", {"backend": backend, "state": state.value})

    line = Line(bound=settings.queue_max, ageing_ms=settings.queue_ageing_ms)
    backends = Backends(
        pool_settings=settings.pool_settings(),
        limits=settings.engine_limits(),
        policy=BreakerPolicy(
            failures=settings.breaker_failures,
            open_ms=settings.breaker_open_ms,
            open_cap_ms=8 * settings.breaker_open_ms,
        ),
        answers=memory.account("answers"),
        line=line,
        metrics=metrics,
        on_breaker=breaker_changed,
    )
    room = WaitingRoom(
        line, WaitingSettings(queue_s=settings.queue_ms / 1000, evict_classes=settings.evict_classes), metrics
    )
    return Means(
        backends=backends,
        room=room,
        hedging=Hedging(room, RetryBudget(ratio=_HEDGES, floor_per_s=_HEDGES_PER_S), metrics),
        continuations=Continuations(
            backends,
            memory.account("continuation"),
            max_bytes=settings.continuation_bytes,
            metrics=metrics,
        ),
        budget=RetryBudget(ratio=settings.retry_ratio, floor_per_s=settings.retry_floor_per_s),
        settings=RelaySettings(
            max_attempts=settings.max_attempts,
            finish_grace_s=settings.finish_grace_ms / 1000,
            legs=LegTimings(
                first_event_s=settings.first_event_ms / 1000,
                idle_s=settings.idle_ms / 1000,
                response_s=settings.response_ms / 1000,
            ),
        ),
        metrics=metrics,
    )
