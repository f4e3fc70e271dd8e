"""One trace through an allocator, event by event, with the waste of every second added up.

`_BACKLOG` requests wait at any time: each one that is granted brings a new one, so the cards are as full as the
allocator can make them; without somebody waiting nothing is wasted. Those who wait are tried in the order they came;
one that fits goes ahead of one that does not, but nobody is passed by more than `_PASSES` others, so that large ones
are not starved.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from core_gpu.arbiter.allocator import Choice, Gpu, Holding, Placement, Refusal, Rule, best_fit, pending_mb
from core_gpu.arbiter.allocator import place as allocate
from core_gpu.waste.mixes import Mix, Size, size

__all__ = ["Place", "Waste", "drive"]

Place = Callable[[Iterable[Gpu], int, Rule, Choice], Placement | Refusal]

_BACKLOG: Final = 12
_PASSES: Final = 12
#: From disk at 2 GB/s.
_LOAD_MB_PER_S: Final = 1_900


@dataclass(frozen=True, slots=True)
class Waste:
    """Means over a trace's time, as shares of the memory beneath the cap."""

    #: Reserved beyond what its holder comes to use.
    estimate_error: float
    #: Free, while no waiting request fits anywhere.
    stranded: float
    #: Free and large enough for somebody who waits, but kept for one who has waited longer.
    kept: float
    #: Held and used.
    used: float
    granted_per_hour: float
    #: Moments at which measured use was above the cap: an estimate was too low.
    over_cap: int

    @property
    def total(self) -> float:
        """What the gate looks at."""
        return self.estimate_error + self.stranded


@dataclass(slots=True)
class _Job:
    """One request of the trace."""

    size: Size
    hold_s: float
    passed: int = 0
    #: Where it was put; -1 = it waits.
    gpu: int = -1
    loaded: bool = False


@dataclass(slots=True)
class _Card:
    """What is on one GPU, summed up."""

    index: int
    total_mb: int
    #: Measured.
    used_mb: int = 0
    pending_mb: int = 0
    #: What holders have, or may still take.
    taken_mb: int = 0
    #: Of it, what they never come to use.
    unused_mb: int = 0

    def count(self, job: _Job, sign: int) -> None:
        """Add a job as it is now, or take it off."""
        reserved, used = job.size
        there = used if job.loaded else 0
        self.used_mb += sign * there
        self.pending_mb += sign * pending_mb([Holding(reserved, there)])
        self.taken_mb += sign * max(reserved, used)
        self.unused_mb += sign * max(0, reserved - used)

    def seen(self) -> Gpu:
        """Return the card as the arbiter sees it."""
        return Gpu(f"GPU-{self.index}", self.index, self.total_mb, self.used_mb, self.pending_mb)


def drive(
    mix: Mix,
    gpus: int,
    seed: int,
    *,
    grants: int = 300,
    choice: Choice = best_fit,
    rule: Rule | None = None,
    place: Place = allocate,
) -> Waste:
    """Return the waste of one trace on so many GPUs.

    Args:
        mix: who asks.
        gpus: how many cards.
        seed: draws the trace; the same requests in the same order, whatever the allocator does.
        grants: how many leases to grant after the cards are full for the first time.
        choice: among the GPUs that fit.
        rule: cap and margin; the mix's own margin beneath 90 % when left out.
        place: the allocator.
    """
    chance = random.Random(seed)  # noqa: S311  seeded randomness is wanted
    return _Run(mix, gpus, chance, choice, rule or Rule(margin_mb=mix.margin_mb), place).play(grants)


class _Run:
    def __init__(self, mix: Mix, gpus: int, chance: random.Random, choice: Choice, rule: Rule, place: Place) -> None:
        self._mix, self._chance, self._choice, self._rule, self._place = mix, chance, choice, rule, place
        self._cards = [_Card(index, mix.gpu_mb) for index in range(gpus)]
        self._coming = [request for request in mix.requests if not request.resident]
        self._weights = [request.share for request in self._coming]
        self._cap = rule.cap_mb(mix.gpu_mb)
        self._queue: list[_Job] = []
        self._events: list[tuple[float, int, _Job]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._granted = 0
        self._over = 0
        self._error = self._stranded = self._kept = self._used = 0.0
        self._holding = False

    def play(self, grants: int) -> Waste:
        self._settle_in()
        self._serve()
        self._granted = 0
        while self._granted < grants and self._events:
            when, _, job = heapq.heappop(self._events)
            self._pass(when - self._now)
            self._now = when
            card = self._cards[job.gpu]
            card.count(job, -1)
            if not job.loaded:
                job.loaded = True
                card.count(job, +1)
                self._push(self._now + job.hold_s, job)
            else:
                self._serve()
        span = self._now * self._cap * len(self._cards) or 1.0
        return Waste(
            estimate_error=self._error / span, stranded=self._stranded / span, kept=self._kept / span,
            used=self._used / span,
            granted_per_hour=self._granted / (self._now or 1.0) * 3_600, over_cap=self._over,
        )  # fmt: skip

    def _settle_in(self) -> None:
        """Put the residents down: one of each on every second card."""
        for request in self._mix.requests:
            if request.resident:
                for card in self._cards[::2]:
                    card.count(_Job(size(request, self._mix, self._chance), 0.0, loaded=True), +1)

    def _push(self, at: float, job: _Job) -> None:
        heapq.heappush(self._events, (at, next(self._order), job))

    def _draw(self) -> _Job:
        request = self._chance.choices(self._coming, self._weights)[0]
        return _Job(size(request, self._mix, self._chance), self._chance.expovariate(1 / request.hold_s))

    def _serve(self) -> None:
        """Grant what fits, until nobody in a full queue does."""
        again = True
        self._holding = False
        while again:
            while len(self._queue) < _BACKLOG:
                self._queue.append(self._draw())
            again = self._grant_one()

    def _grant_one(self) -> bool:
        seen = [card.seen() for card in self._cards]
        for at, job in enumerate(self._queue):
            found = self._place(seen, job.size.reserved_mb, self._rule, self._choice)
            if isinstance(found, Placement):
                for other in self._queue[:at]:
                    other.passed += 1
                del self._queue[at]
                job.gpu = found.gpu.index
                self._cards[job.gpu].count(job, +1)
                self._push(self._now + job.size.used_mb / _LOAD_MB_PER_S, job)
                self._granted += 1
                return True
            if job.passed >= _PASSES:
                # It was passed often enough: what comes free now is kept for it.
                # Had it room somewhere by the rule, that would be no fairness but the allocator's fault.
                self._holding = all(self._room(card) < job.size.reserved_mb for card in self._cards)
                return False
        return False

    def _room(self, card: _Card) -> int:
        return self._cap - card.taken_mb - self._rule.margin_mb

    def _pass(self, seconds: float) -> None:
        """Add up `seconds` of the state as it is."""
        least = min(job.size.reserved_mb for job in self._queue)
        for card in self._cards:
            free = max(0, self._cap - card.taken_mb)
            self._error += seconds * card.unused_mb
            self._used += seconds * (card.taken_mb - card.unused_mb)
            if self._holding and self._room(card) >= least:
                self._kept += seconds * free
            else:
                self._stranded += seconds * free
            self._over += card.taken_mb > self._cap
