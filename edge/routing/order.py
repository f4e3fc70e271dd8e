"""The edge's own choice among candidates: region, affinity, and the power of two choices on its own counts."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from streamkit.flow.select import by_region, p2c, rendezvous
from streamkit.wire.route import Candidate, RouteAnswer

__all__ = ["preference"]

_RANDOM = random.Random()  # noqa: S311 - spreads load, guards nothing


def preference(
    answer: RouteAnswer, *, inflight: Callable[[Candidate], float], session: str, prefix: bytes, region: str
) -> list[Candidate]:
    """Return the candidates of an answer that take new work, best first.

    Args:
        answer: control's set.
        inflight: this edge's requests at a candidate now.
        session: `X-Headrace-Session`; one session keeps to one backend while that serves.
        prefix: first bytes of the request; under the policy `affinity` equal beginnings, such as one system prompt,
            keep to one backend and its prefix cache.
        region: the edge's own region, whose candidates come first.
    """
    ranks = {candidate.rank for candidate in answer.candidates}
    if len(ranks) > 1:
        # A chain: every candidate of one model before the next model's.
        order: list[Candidate] = []
        for rank in sorted(ranks):
            same = tuple(candidate for candidate in answer.candidates if candidate.rank == rank)
            part = msgspec.structs.replace(answer, candidates=same)
            order += preference(part, inflight=inflight, session=session, prefix=prefix, region=region)
        return order
    candidates = answer.candidates
    if len(candidates) == 1:
        return [candidate for candidate in candidates if candidate.weight > 0]
    key = session.encode() or (prefix if answer.policy == "affinity" else b"")
    if key:
        order = rendezvous(key, candidates, lambda c: c.backend, lambda c: c.weight)
    else:
        order = p2c(candidates, inflight, lambda c: c.weight * c.max_inflight, _RANDOM)
    return by_region(order, region, lambda candidate: candidate.region)
