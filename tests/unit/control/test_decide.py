"""The routing decision as a table: a view and a request in, an answer out."""

from __future__ import annotations

import msgspec
import pytest

from control.decide import decide, wanted
from control.settings import ControlSettings
from control.view import BackendView, View
from streamkit.wire.backend import Backend, Capabilities
from streamkit.wire.models import Alias, Equivalents, Model, Models
from streamkit.wire.route import RouteAnswer, RouteRequest

SETTINGS = ControlSettings(hedge_after_ms=300, region_weights={"far": 0.5, "closed": 0})


def backend(name: str, health: str = "up", models: tuple[str, ...] | None = ("m",), **rest: object) -> BackendView:
    engine = rest.pop("engine", "vllm")
    region = rest.pop("region", "")
    return BackendView(
        backend=Backend(name=name, engine=engine, url=f"http://{name}:8000", region=region),  # type: ignore[arg-type]
        health=health,  # type: ignore[arg-type]
        models=models,
        capabilities=Capabilities(),
        **rest,  # type: ignore[arg-type]
    )


def ask(*backends: BackendView, model: str = "m", priority: int = 5, live_edges: int = 1) -> RouteAnswer:
    view = View.of("control.0.1", 7, live_edges, backends)
    return decide(view, RouteRequest(model=model, priority_class=priority), SETTINGS)


def names(answer: RouteAnswer) -> list[str]:
    assert answer.shed is None, answer.shed
    return [candidate.backend for candidate in answer.candidates]


def code(answer: RouteAnswer) -> str:
    assert answer.candidates == ()
    assert answer.shed is not None
    return answer.shed.code


HEALTH = [
    ("up and down", ["up", "down"], ["b0"]),
    ("all up", ["up", "up"], ["b0", "b1"]),
    ("not probed yet, while another is up", ["unknown", "up"], ["b1"]),
    ("nobody probed yet", ["unknown", "unknown"], ["b0", "b1"]),
    ("down and not probed yet", ["down", "unknown"], ["b1"]),
]


@pytest.mark.parametrize(("case", "healths", "expected"), HEALTH, ids=[row[0] for row in HEALTH])
def test_health(case, healths, expected):
    assert names(ask(*(backend(f"b{n}", health) for n, health in enumerate(healths)))) == expected


F, S = 500, 1_500  # fresh and stale, in milliseconds
PRESSURE = [
    # (pressure, age) of each backend; for work of priority 5; for work of priority 3. None = shed.
    ("absent is open", [(None, None)], ["b0"], ["b0"]),
    ("fresh ok and busy are open", [("ok", F), ("busy", F)], ["b0", "b1"], ["b0", "b1"]),
    ("fresh shedding is avoided", [("shedding", F), ("ok", F)], ["b1"], ["b0", "b1"]),
    ("fresh shedding, alone", [("shedding", F)], None, ["b0"]),
    ("fresh down is out for everybody", [("down", F), ("ok", F)], ["b1"], ["b1"]),
    ("stale is saturated beside a fresh one", [("ok", S), ("ok", F)], ["b1"], ["b0", "b1"]),
    ("stale shedding beside a fresh one", [("shedding", S), ("ok", F)], ["b1"], ["b0", "b1"]),
    ("stale alone is open", [("shedding", S)], ["b0"], ["b0"]),
    ("stale down alone is open", [("down", S)], ["b0"], ["b0"]),
    ("all stale are open", [("ok", S), ("shedding", S)], ["b0", "b1"], ["b0", "b1"]),
    ("stale beside absent is open", [("ok", S), (None, None)], ["b0", "b1"], ["b0", "b1"]),
    ("a fresh one that sheds is no alternative", [("ok", S), ("shedding", F)], ["b0"], ["b0", "b1"]),
    ("one second is fresh", [("shedding", 1_000), ("ok", F)], ["b1"], ["b0", "b1"]),
]


@pytest.mark.parametrize(("case", "signals", "sheddable", "kept"), PRESSURE, ids=[row[0] for row in PRESSURE])
def test_pressure_follows_the_staleness_table(case, signals, sheddable, kept):
    backends = [backend(f"b{n}", pressure=p, pressure_age_ms=age) for n, (p, age) in enumerate(signals)]
    for priority in (4, 5, 9):
        answer = ask(*backends, priority=priority)
        if sheddable is None:
            assert code(answer) == "saturated"
            assert answer.shed is not None
            assert answer.shed.retry_after_ms == 1_000
        else:
            assert names(answer) == sheddable
    for priority in (1, 2, 3):
        assert names(ask(*backends, priority=priority)) == kept


def test_every_backend_down_by_its_arbiter_is_no_backend():
    answer = ask(backend("b", pressure="down", pressure_age_ms=F), priority=1)
    assert code(answer) == "no_backend"
    assert "says its arbiter" in answer.shed.message


def test_a_wrong_name_is_told_the_right_ones():
    answer = ask(backend("a", models=("tiny", "big")), backend("b", health="down", models=("huge",)), model="tinny")
    assert code(answer) == "model_not_found"
    assert answer.shed.message == "the model 'tinny' does not exist; known models: big, huge, tiny"
    assert answer.shed.retry_after_ms is None
    assert answer.ttl_ms == SETTINGS.shed_ttl_ms


def test_many_names_are_cut():
    answer = ask(backend("a", models=tuple(f"m{n:02}" for n in range(25))), model="x")
    assert answer.shed.message.endswith("m18, m19 and 5 more")


def test_while_a_backend_has_not_told_its_models_no_name_is_wrong():
    answer = ask(backend("a"), backend("silent", health="down", models=None), model="x")
    assert code(answer) == "no_backend"
    assert "not heard from yet: silent" in answer.shed.message
    assert answer.shed.retry_after_ms == SETTINGS.probe_interval_ms


def test_an_engine_without_models_makes_a_name_wrong():
    answer = ask(backend("a", models=()), model="x")
    assert code(answer) == "model_not_found"
    assert "no backend serves any model" in answer.shed.message


def test_all_down_says_why_and_when():
    answer = ask(backend("a", "down", detail="cannot connect"), backend("b", "down", detail="no answer in time"))
    assert code(answer) == "no_backend"
    assert answer.shed.message == "no backend takes work for 'm': a (cannot connect), b (no answer in time)"
    assert answer.shed.retry_after_ms == SETTINGS.probe_interval_ms
    assert answer.ttl_ms == SETTINGS.shed_ttl_ms


def test_regions_have_weights():
    answer = ask(backend("a", region="near"), backend("b", region="far"), backend("c", region="closed"))
    assert [(c.backend, c.weight, c.region) for c in answer.candidates] == [("a", 1.0, "near"), ("b", 0.5, "far")]
    assert "weight 0" in ask(backend("c", region="closed")).shed.message


def test_candidates_carry_what_the_edge_needs():
    answer = ask(backend("a", api_key="secret"), live_edges=3)
    (candidate,) = answer.candidates
    assert (candidate.url, candidate.engine, candidate.model) == ("http://a:8000", "vllm", "m")
    assert (candidate.max_inflight, candidate.live_edges, candidate.api_key) == (256, 3, "secret")
    assert candidate.capabilities == Capabilities()
    assert (answer.snapshot, answer.ttl_ms, answer.policy) == (7, 1_000, "p2c")


def test_an_edge_that_was_never_heard_of_still_has_a_share():
    assert ask(backend("a"), live_edges=0).candidates[0].live_edges == 1


def test_hedging_needs_two_and_nobody_busy():
    assert ask(backend("a"), backend("b")).hedge_after_ms == 300
    assert ask(backend("a")).hedge_after_ms is None
    assert ask(backend("a"), backend("b", pressure="busy", pressure_age_ms=F)).hedge_after_ms is None


@pytest.mark.parametrize(
    ("engine", "models", "asked", "served"),
    [
        ("ollama", ("m:latest", "other:7b"), "m", "m:latest"),
        ("ollama", ("m:latest",), "m:latest", "m:latest"),
        ("ollama", ("m", "m:latest"), "m", "m"),
        ("ollama", ("other:7b",), "other", None),
        ("vllm", ("m:latest",), "m", None),
    ],
)
def test_ollama_takes_names_without_a_tag(engine, models, asked, served):
    answer = ask(backend("b", engine=engine, models=models), model=asked)
    assert (answer.candidates[0].model if answer.candidates else None) == served


def test_the_same_question_gets_the_same_decision():
    backends = (backend("a"), backend("b", "down"))
    encoded = {msgspec.json.encode(ask(*backends)) for _ in range(3)}
    assert len(encoded) == 1
    ids = {ask(*backends).decision_id, ask(*backends, priority=1).decision_id, ask(*backends, model="x").decision_id}
    assert len(ids) == 3


# Aliases and chains


CHAIN = Models(
    aliases=(Alias(name="chat", models=("large", "small")), Alias(name="small", models=("small", "large"))),
    models=(Model(name="large", continuation=True), Model(name="small")),
)


def asked(*backends: BackendView, model: str = "chat", priority: int = 5) -> RouteAnswer:
    view = View.of("control.0.1", 7, 1, backends, CHAIN)
    return decide(view, RouteRequest(model=model, priority_class=priority), SETTINGS)


def places(answer: RouteAnswer) -> list[tuple[int, str, str]]:
    assert answer.shed is None, answer.shed
    return [(one.rank, one.backend, one.model) for one in answer.candidates]


def test_a_chain_names_every_model_that_takes_work_in_order():
    both = backend("both", models=("small", "large"))
    only = backend("only", models=("large",))
    assert places(asked(both, only)) == [(0, "both", "large"), (0, "only", "large"), (1, "both", "small")]
    assert places(asked(both, only, model="small")) == [
        (0, "both", "small"),
        (1, "both", "large"),
        (1, "only", "large"),
    ], "a model's own name may be an alias, with something to fall back on"
    assert places(asked(both, only, model="large")) == [(0, "both", "large"), (0, "only", "large")]


def test_a_chain_passes_over_models_without_a_usable_backend():
    down = backend("a", "down", models=("large",))
    assert places(asked(down, backend("b", models=("small",)))) == [(1, "b", "small")]
    pressed = backend("a", models=("large",), pressure="shedding", pressure_age_ms=10)
    assert places(asked(pressed, backend("b", models=("small",)))) == [(1, "b", "small")]
    assert places(asked(pressed, backend("b", models=("small",)), priority=2))[0] == (0, "a", "large")
    # One that was probed is better than one that was not, whatever its place.
    assert places(asked(backend("a", "unknown", models=("large",)), backend("b", models=("small",)))) == [
        (1, "b", "small")
    ]


def test_a_chain_that_nobody_serves_is_no_wrong_name():
    assert code(asked(backend("a", models=("other",)))) == "no_backend"
    answer = asked(backend("a", "down", models=("large",)), backend("b", "down", models=("small",)))
    assert code(answer) == "no_backend"
    assert answer.shed is not None
    assert "a (down), b (down)" in answer.shed.message


def test_a_wrong_name_is_told_the_aliases_too():
    answer = asked(backend("a", models=("large",)), model="chatt")
    assert code(answer) == "model_not_found"
    assert answer.shed is not None
    assert answer.shed.message.endswith("known models: large; aliases: chat, small")


def test_hedging_asks_the_same_model_elsewhere_or_nobody():
    large, small = backend("a", models=("large",)), backend("b", models=("small",))
    assert asked(large, small).hedge_after_ms is None
    assert asked(large, backend("c", models=("large",)), small).hedge_after_ms == 300


def test_continuation_needs_the_models_policy_and_an_engine_that_can():
    answer = asked(backend("a", models=("large", "small")))
    assert [one.continues for one in answer.candidates] == [True, False]
    cannot = BackendView(
        backend=Backend(name="a", engine="openai", url="http://a:1"),
        health="up",
        models=("large",),
        capabilities=Capabilities(prefill=False),
    )
    assert [one.continues for one in asked(cannot).candidates] == [False]


# The user's rule: "TF busy → vLLM/Ollama or 503, same round", for what each engine can answer at all.
# Pressure of the asked model's backend, its stand-in's engine and pressure; who answers. None = 429.
RULE = [
    ("tfserving", "ok", "tfserving", "ok", ["asked", "other"]),
    ("tfserving", "shedding", "tfserving", "ok", ["other"]),
    ("tfserving", "down", "tfserving", "ok", ["other"]),
    ("tfserving", "shedding", "tfserving", "shedding", None),
    # Nobody translates a prediction into a chat: refused, at once.
    ("tfserving", "shedding", "vllm", "ok", None),
    ("tfserving", "shedding", "ollama", "ok", None),
    ("vllm", "shedding", "ollama", "ok", ["other"]),
    ("vllm", "shedding", "ollama", "busy", ["other"]),
    ("vllm", "shedding", "ollama", "shedding", None),
    ("vllm", "shedding", "tfserving", "ok", None),
    ("ollama", "shedding", "vllm", "ok", ["other"]),
    ("ollama", "down", "vllm", "ok", ["other"]),
    ("ollama", "busy", "vllm", "ok", ["asked", "other"]),
]


@pytest.mark.parametrize(("engine", "pressure", "other", "relief", "expected"), RULE)
def test_a_busy_models_request_goes_to_an_equivalent_or_is_refused(engine, pressure, other, relief, expected):
    backends = [
        backend("asked", engine=engine, models=("m",), pressure=pressure, pressure_age_ms=F),
        backend("other", engine=other, models=("n",), pressure=relief, pressure_age_ms=F),
    ]
    view = View.of("control.0.1", 7, 1, backends, Models(equivalents=(Equivalents(models=("m", "n")),)))
    answer = decide(view, RouteRequest(model="m"), SETTINGS)
    if expected is None:
        # 429: come back in a moment; work of priority 1 to 3 is still taken.
        assert code(answer) == "saturated"
        return
    assert names(answer) == expected
    assert [candidate.rank for candidate in answer.candidates] == [0, 1][2 - len(expected) :]


def test_an_equivalent_answers_for_a_model_that_is_away_and_a_stale_word_gives_way_to_it():
    models = Models(equivalents=(Equivalents(models=("m", "n")),))
    away = View.of("control.0.1", 7, 1, [backend("a", "down"), backend("b", models=("n",))], models)
    assert names(decide(away, RouteRequest(model="m"), SETTINGS)) == ["b"]
    stale = [
        backend("a", pressure="ok", pressure_age_ms=S),
        backend("b", models=("n",), pressure="ok", pressure_age_ms=F),
    ]
    view = View.of("control.0.1", 7, 1, stale, models)
    assert names(decide(view, RouteRequest(model="m"), SETTINGS)) == ["b"]
    assert names(decide(view, RouteRequest(model="m", priority_class=2), SETTINGS)) == ["a", "b"]


# Where a model is at two backends (None = nobody says); who answers, and where it should be loaded.
COLD = [
    (["resident", "cold"], ["b0"], None),
    ([None, "cold"], ["b0"], None),
    (["cold", "loading"], ["b0", "b1"], "b0"),
    (["no_room", "cold"], ["b1"], "b1"),
    (["no_room", "no_room"], None, "b0"),
]


@pytest.mark.parametrize(("at", "expected", "load"), COLD)
def test_a_model_that_is_cold_everywhere_is_loaded_where_there_is_room(at, expected, load):
    backends = [backend(f"b{n}", residence={"m": where} if where else {}) for n, where in enumerate(at)]
    view = View.of("control.0.1", 7, 1, backends)
    answer = decide(view, RouteRequest(model="m"), SETTINGS)
    place = wanted(view, RouteRequest(model="m"))
    assert (place.view.backend.name if place else None) == load
    if expected is None:
        assert code(answer) == "no_backend"
        assert answer.shed.retry_after_ms == 2_000
    else:
        assert names(answer) == expected


def test_what_is_held_is_named_beside_the_others_and_nothing_is_decided_by_it():
    assert names(ask(backend("b0", held=True), backend("b1"))) == ["b1", "b0"]
    pressed = {"pressure": "shedding", "pressure_age_ms": F}
    assert code(ask(backend("b0", held=True), backend("b1", **pressed))) == "saturated", (
        "what is held relieves nobody"
    )
    assert names(ask(backend("b0", held=True), backend("b1", "down"))) == ["b0"]
    assert names(ask(backend("b0", held=True), backend("b1", held=True))) == ["b0", "b1"]


@pytest.mark.parametrize(
    "state", [{"health": "down"}, {"held": True}, {"pressure": "down", "pressure_age_ms": F}, {}]
)
def test_a_probe_gets_the_backend_that_it_names_however_that_is(state):
    view = View.of("control.0.1", 7, 1, (backend("b0", **state), backend("b1"), backend("b2", region="closed")))
    for name in ("b0", "b2"):
        answer = decide(view, RouteRequest(model="m", backend=name), SETTINGS)
        assert [(one.backend, one.weight) for one in answer.candidates] == [(name, 1.0)]
    for unknown in (RouteRequest(model="m", backend="b9"), RouteRequest(model="x", backend="b0")):
        assert code(decide(view, unknown, SETTINGS)) == "no_backend"
    plain = decide(view, RouteRequest(model="m"), SETTINGS)
    assert plain.decision_id != decide(view, RouteRequest(model="m", backend="b0"), SETTINGS).decision_id
