from __future__ import annotations

from collections import Counter
from typing import Any

from edge.routing.order import preference
from streamkit.wire.route import Candidate, RouteAnswer
from tests.unit.edge.scripted import candidate

NAMES = "abcde"


def order(candidates: list[Candidate], *, policy: str = "p2c", **given: Any) -> list[str]:
    answer = RouteAnswer(decision_id="d", ttl_ms=1, policy=policy, candidates=tuple(candidates))  # type: ignore[arg-type]
    figures = {"inflight": lambda _: 0.0, "session": "", "prefix": b"", "region": ""} | given
    return [found.backend for found in preference(answer, **figures)]


def five(**fields: Any) -> list[Candidate]:
    return [candidate(name, **fields) for name in NAMES]


def test_every_candidate_is_named_once() -> None:
    for given in ({}, {"session": "s"}, {"policy": "affinity", "prefix": b"p"}, {"region": "eu"}):
        assert sorted(order(five(), **given)) == list(NAMES)


def test_work_spreads_over_equals_and_avoids_the_loaded() -> None:
    firsts = Counter(order(five())[0] for _ in range(400))
    assert set(firsts) == set(NAMES)
    busy = Counter(order(five(), inflight=lambda one: 9.0 * (one.backend == "a"))[0] for _ in range(400))
    assert busy["a"] == 0


def test_load_is_judged_by_weight_and_bound() -> None:
    small, large = candidate("small", max_inflight=2), candidate("large", max_inflight=200)
    assert {order([small, large], inflight=lambda _: 1.0)[0] for _ in range(50)} == {"large"}


def test_a_session_keeps_to_its_backend() -> None:
    assert len({tuple(order(five(), session="s")) for _ in range(20)}) == 1
    assert len({order(five(), session=f"s{number}")[0] for number in range(200)}) == len(NAMES)
    home = order(five(), session="s")
    left = [one for one in five() if one.backend != home[0]]
    assert order(left, session="s") == home[1:], "when it goes, only the first changes"


def test_under_affinity_equal_prefixes_stay_together_and_others_spread() -> None:
    same = {order(five(), policy="affinity", prefix=b"system prompt")[0] for _ in range(20)}
    assert len(same) == 1
    spread = {order(five(), policy="affinity", prefix=b"%d" % number)[0] for number in range(200)}
    assert spread == set(NAMES)
    assert len({order(five(), prefix=b"system prompt")[0] for _ in range(100)}) > 1, "only under that policy"


def test_the_own_region_comes_first() -> None:
    mixed = [candidate(name, region="eu" if name in "de" else "us") for name in NAMES]
    for session in ("", "s"):
        assert set(order(mixed, region="eu", session=session)[:2]) == {"d", "e"}


def test_a_weight_of_0_takes_no_work_even_alone() -> None:
    idle = candidate("idle", weight=0.0)
    assert order([idle]) == []
    assert order([idle, candidate("a")]) == ["a"]
    assert order([idle, candidate("a")], session="s") == ["a"]
    assert order([candidate("a")]) == ["a"]


def test_a_chains_models_keep_their_order_whatever_the_load_and_the_region() -> None:
    chain = [candidate("a", rank=0, region="far"), candidate("b", rank=0, region="far"), candidate("c", rank=2)]
    for given in ({}, {"session": "s"}, {"region": ""}, {"inflight": lambda one: 9.0 * (one.rank == 0)}):
        assert order(chain, **given)[2] == "c"
    chain[0] = candidate("a", rank=0, weight=0)
    assert order(chain) == ["b", "c"]
