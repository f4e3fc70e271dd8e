from __future__ import annotations

import msgspec
import pytest

from edge.sources.engine import EngineSource
from streamkit.flow.breaker import BreakerState
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from tests.unit.edge.relay.rig import backends
from tests.unit.edge.scripted import candidate


def test_a_backend_is_made_once_and_kept() -> None:
    made = backends(Metrics())
    one = candidate()
    first = made.of(one)
    assert made.of(one) is first
    assert isinstance(first.source, EngineSource)
    assert first.name == "a"


@pytest.mark.parametrize(("bound", "edges", "limit"), [(4, 1, 4), (4, 2, 3), (1, 8, 1), (100, 3, 51)])
def test_the_bound_is_shared_among_live_edges(bound: int, edges: int, limit: int) -> None:
    assert backends(Metrics()).of(candidate(max_inflight=bound, live_edges=edges)).permits.limit == limit


def test_a_newer_answer_changes_the_figures_and_keeps_the_counts() -> None:
    made = backends(Metrics())
    one = candidate(max_inflight=4)
    backend = made.of(one)
    permit = backend.permits.try_acquire()
    assert permit is not None
    pool = backend.pool
    again = made.of(msgspec.structs.replace(one, max_inflight=8, model="renamed"))
    assert again is backend
    assert (backend.permits.limit, backend.permits.in_use, backend.candidate.model) == (8, 1, "renamed")
    assert backend.pool is pool
    permit.release()


def test_a_moved_backend_gets_another_pool() -> None:
    made = backends(Metrics())
    backend = made.of(candidate(url="http://127.0.0.1:1"))
    pool = backend.pool
    made.of(candidate(url="http://127.0.0.1:2"))
    assert backend.pool is not pool
    assert backend.pool.port == 2


def test_loads_are_this_edges_own() -> None:
    made = backends(Metrics())
    one, other = candidate("a"), candidate("b")
    assert made.inflight(one) == 0
    permit = made.of(one).permits.try_acquire()
    assert permit is not None
    assert (made.inflight(one), made.inflight(other)) == (1, 0)
    assert made.inflight_by_name() == {"a": 1}
    permit.release()


def test_what_is_watched() -> None:
    metrics = Metrics()
    told: list[tuple[str, BreakerState]] = []
    made = backends(metrics, failures=1, told=told)
    backend = made.of(candidate())
    permit, ticket = backend.permits.try_acquire(), backend.breaker.permit()
    assert permit is not None
    assert ticket is not None
    assert metrics.value(catalog.ATTEMPTS_INFLIGHT, "a") == 1
    assert metrics.value(catalog.BREAKER_OPEN, "a") == 0
    assert metrics.value(catalog.UPSTREAM_CONNECTIONS, "a", "idle") == 0
    assert metrics.value(catalog.UPSTREAM_CONNECTIONS, "a", "active") == 0
    permit.release()
    ticket.failure()
    assert metrics.value(catalog.ATTEMPTS_INFLIGHT, "a") == 0
    assert metrics.value(catalog.BREAKER_OPEN, "a") == 1
    assert told == [("a", BreakerState.OPEN)]
    made.close()
