"""One request between a scripted source for each candidate and a scripted outlet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.protocol.request import Operation, parse
from edge.relay.backends import Backend, Backends
from edge.relay.continuation import Continuations
from edge.relay.hedge import Hedging
from edge.relay.leg import LegTimings
from edge.relay.means import Means, RelaySettings
from edge.relay.relay import Relay
from edge.relay.waiting import WaitingRoom, WaitingSettings
from edge.sources.engine import EngineLimits
from edge.sources.pool import PoolSettings
from streamkit.flow.breaker import BreakerPolicy, BreakerState
from streamkit.flow.budget import Budget
from streamkit.flow.line import Line
from streamkit.flow.retry_budget import RetryBudget
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics
from streamkit.wire.route import Candidate
from tests.support.timing import MS
from tests.unit.edge.scripted import NEVER_S, News, Outlet, Source, Upstream, candidate, stream

BODY = b'{"model":"m","stream":true%b,"messages":[{"role":"user","content":"hi"}]}'


def backends(
    metrics: Metrics,
    *,
    failures: int = 5,
    told: list[tuple[str, BreakerState]] | None = None,
    line: Line | None = None,
) -> Backends:
    return Backends(
        pool_settings=PoolSettings(connect_s=1, idle_s=1, max_idle=1, rcvbuf_bytes=65536),
        limits=EngineLimits(max_event_bytes=1 << 20, max_response_bytes=1 << 20),
        policy=BreakerPolicy(failures=failures, open_ms=60_000, open_cap_ms=60_000),
        answers=Budget(1 << 20).account("answers"),
        line=line or Line(bound=0, ageing_ms=0),
        metrics=metrics,
        on_breaker=lambda name, state: told.append((name, state)) if told is not None else None,
    )


class Rig:
    """A relay under test; make it inside a running loop."""

    def __init__(
        self,
        candidates: Sequence[Candidate] | None = None,
        *,
        fields: str = "",
        streaming: bool = True,
        first_event_ms: float = 0,
        idle_ms: float = 0,
        response_ms: float = 0,
        finish_grace_ms: float = 0,
        max_attempts: int = 3,
        budget: RetryBudget | None = None,
        failures: int = 5,
        sim: bytes = b"",
        priority: int = 5,
        beside: Rig | None = None,
        queue_ms: float = 0,
        queue_max: int = 0,
        evict_classes: int = 3,
        hedge_after_ms: float | None = None,
        hedges: RetryBudget | None = None,
        **deadlines: float,
    ) -> None:
        if beside is not None:
            # Another request of the same edge: its backends, and its queue.
            self.metrics, self.backends, self.room = beside.metrics, beside.backends, beside.room
            self.candidates, self.sources = list(candidates or beside.candidates), beside.sources
        else:
            self.metrics = Metrics()
            line = Line(bound=queue_max, ageing_ms=1_000)
            waits = WaitingSettings(queue_s=queue_ms * MS or NEVER_S, evict_classes=evict_classes)
            self.room = WaitingRoom(line, waits, self.metrics)
            self.candidates = list(candidates or [candidate()])
            self.backends = backends(self.metrics, failures=failures, line=line)
            self.sources: dict[str, Source] = {}
            for one in self.candidates:
                self.sources[one.backend] = Source()
                self.backend(one).source = self.sources[one.backend]
        self.stream = stream(self.metrics, streaming=streaming, **deadlines)
        self.outlet = Outlet()
        self.priority = priority
        self.settled: list[Relay] = []
        self.news = News()
        body = BODY % fields.encode() if streaming else b'{"model":"m"}'
        if beside is None:
            self.memory = Budget(1 << 20)
            self.hedging = Hedging(self.room, hedges or RetryBudget(ratio=1, floor_per_s=10), self.metrics)
            self.continuations = Continuations(
                self.backends, self.memory.account("continuation"), max_bytes=1 << 16, metrics=self.metrics
            )
        else:
            self.memory, self.hedging, self.continuations = beside.memory, beside.hedging, beside.continuations
        self.relay = Relay(
            means=Means(
                backends=self.backends,
                room=self.room,
                hedging=self.hedging,
                continuations=self.continuations,
                budget=budget or RetryBudget(),
                settings=RelaySettings(
                    max_attempts=max_attempts,
                    finish_grace_s=finish_grace_ms * MS or NEVER_S,
                    legs=LegTimings(
                        first_event_s=first_event_ms * MS or NEVER_S,
                        idle_s=idle_ms * MS or NEVER_S,
                        response_s=response_ms * MS or NEVER_S,
                    ),
                ),
                metrics=self.metrics,
            ),
            call=parse(Operation.CHAT, body),
            stream=self.stream,
            candidates=self.candidates,
            priority=priority,
            hedge_after_s=hedge_after_ms * MS if hedge_after_ms is not None else None,
            headers=((b"x-request-id", b"r1"),),
            sim=sim,
            on_settled=self._on_settled,
        )

    def _on_settled(self, relay: Relay) -> None:
        self.settled.append(relay)
        self.news.tell()

    def backend(self, one: Candidate) -> Backend:
        return self.backends.of(one)

    def start(self) -> Upstream:
        """Start, and return the first upstream."""
        self.relay.start()
        return self.sources[self.candidates[0].backend].last

    def begin(self, *events: bytes) -> Upstream:
        """Start, feed `events`, and let them out to the client."""
        upstream = self.start()
        for event in events:
            upstream.feed(event)
        self.stream.attach(self.outlet)
        return upstream

    def leave(self) -> None:
        """What the transport does when the client's side is over."""
        self.stream.gone()
        self.relay.check_over()
        self.stream.close()

    @property
    def text(self) -> bytes:
        return self.outlet.text

    @property
    def in_use(self) -> int:
        return sum(self.backends.inflight_by_name().values())

    def breaker(self, index: int = 0) -> BreakerState:
        return self.backend(self.candidates[index]).breaker.state

    def attempts(self, outcome: str, name: str = "a") -> float:
        return self.metrics.value(catalog.ATTEMPTS, name, outcome)

    def reply(self) -> tuple[int, bytes]:
        assert self.stream.reply is not None
        return self.stream.reply.status, self.stream.reply.body

    async def over(self) -> None:
        """Wait until client and upstreams are over; nothing may be held then."""
        await self.over_beside()
        assert self.in_use == 0

    async def over_beside(self) -> None:
        """Wait until client and upstreams are over, beside other requests of the same edge."""
        self.relay.check_over()
        await self.news.until(lambda: self.settled)
        self.leave()
        assert self.settled == [self.relay]


def two(**fields: Any) -> list[Candidate]:
    return [candidate("a", **fields), candidate("b", **fields)]
