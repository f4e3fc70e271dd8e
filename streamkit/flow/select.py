"""The order in which to try candidates. Pure functions over any kind of candidate (design §5).

Each gives a full preference order: the first is the choice, the rest is where to go when it refuses. They compose:
`by_region(p2c(...))` is the power of two choices with the own region first.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["by_region", "p2c", "rendezvous"]

C = TypeVar("C")
_SPAN = 2.0**64


def p2c(
    candidates: Sequence[C],
    inflight: Callable[[C], float],
    weight: Callable[[C], float],
    rng: random.Random,
) -> list[C]:
    """Return an order by the power of two choices: of two drawn at random, the less loaded goes first.

    Two random choices come close to the least loaded without the herd that runs to it (Mitzenmacher, 2001). The
    same draw decides each later place, so that retries of many requests spread too.

    Args:
        candidates: what to choose from.
        inflight: requests that a candidate has in flight now.
        weight: how much it can take: its weight times its bound. One of 0 or less takes none and is left out.
        rng: where the draws come from.
    """
    rest: list[tuple[float, C]] = []
    for candidate in candidates:
        capacity = weight(candidate)
        if capacity > 0:
            rest.append((inflight(candidate) / capacity, candidate))
    order: list[C] = []
    while len(rest) > 1:
        first = int(rng.random() * len(rest))
        second = int(rng.random() * (len(rest) - 1))
        second += second >= first
        order.append(rest.pop(second if rest[second][0] < rest[first][0] else first)[1])
    order.extend(candidate for _, candidate in rest)
    return order


def rendezvous(
    key: bytes | str, candidates: Iterable[C], name: Callable[[C], str], weight: Callable[[C], float]
) -> list[C]:
    """Return the order of `candidates` for `key` by weighted highest random weight.

    The same key gives the same order everywhere and whatever the order of `candidates`; a candidate that goes away
    moves only the keys that it was first for, and each of those to its own second (Thaler and Ravishankar, 1998;
    weights by -w / ln h).

    Args:
        key: what stays together: a session, or a prefix.
        candidates: what to choose from.
        name: a candidate's stable name.
        weight: its share of the keys. One of 0 or less takes none and is left out.
    """
    seed = key.encode() if isinstance(key, str) else key
    base = hashlib.blake2b(seed, digest_size=8)
    scored: list[tuple[float, str, C]] = []
    for candidate in candidates:
        portion = weight(candidate)
        if portion <= 0:
            continue
        label = name(candidate)
        point = base.copy()
        point.update(b"\0" + label.encode())
        drawn = (int.from_bytes(point.digest(), "big") + 0.5) / _SPAN
        scored.append((math.log(drawn) / portion, label, candidate))
    scored.sort(key=lambda row: (-row[0], row[1]))
    return [candidate for _, _, candidate in scored]


def by_region(candidates: Iterable[C], region: str, region_of: Callable[[C], str]) -> list[C]:
    """Return `candidates` with those of `region` first; the order within each part stays.

    Args:
        candidates: in the order of preference so far.
        region: the caller's own; empty = it has none, and prefers nobody.
        region_of: a candidate's region.
    """
    if not region:
        return list(candidates)
    return sorted(candidates, key=lambda candidate: region_of(candidate) != region)
