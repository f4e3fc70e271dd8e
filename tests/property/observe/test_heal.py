"""What is done about sick paths: bounded in number, never against the last healthy backend, and undone afterwards."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from observe.heal import Act, Backend, Healer, HealRule, Path
from streamkit.flow.clock import ManualClock

RULE = HealRule(max_acts=4, window_s=600.0, pause_s=60.0, restart_after_s=20.0)
MODELS = {"a": {"m"}, "b": {"m", "n"}, "c": {"n"}, "lone": {"own"}}
NODES = ("north", "south")


def backends(down: set[str] = frozenset()) -> dict[str, Backend]:
    return {name: Backend(up=name not in down, models=frozenset(models)) for name, models in MODELS.items()}


def paths(sick: set[tuple[str, str]]) -> list[Path]:
    return [Path(node, name, (node, name) in sick, "slow") for node in NODES for name in MODELS]


def everywhere(*names: str) -> set[tuple[str, str]]:
    return {(node, name) for node in NODES for name in names}


def test_a_backend_sick_on_every_path_is_held_renewed_and_released():
    healer = Healer(RULE, ManualClock())
    assert healer.decide(paths(everywhere("a")), backends()) == [Act("hold", "a", "", "slow")]
    assert healer.decide(paths(everywhere("a")), backends()) == [Act("renew", "a", "", "slow")]
    (act,) = healer.decide(paths(set()), backends())
    assert act[:3] == ("release", "a", "")
    assert healer.held == frozenset()


def test_a_backend_sick_from_one_node_is_held_there_only():
    healer = Healer(RULE, ManualClock())
    assert healer.decide(paths({("north", "a")}), backends()) == [Act("hold", "a", "north", "slow")]


def test_a_sickness_that_nodes_see_one_after_the_other_is_one_act_and_leaves_no_moment_without_a_hold():
    healer = Healer(RULE, ManualClock())
    assert healer.decide(paths({("north", "a")}), backends()) == [Act("hold", "a", "north", "slow")]
    acts = healer.decide(paths(everywhere("a")), backends())
    assert acts == [Act("hold", "a", "", "slow"), Act("renew", "a", "north", "slow")]
    acts = healer.decide(paths(everywhere("a")), backends())
    assert [act[:3] for act in acts] == [("renew", "a", ""), ("release", "a", "north")]
    # And back: the node that is still sick keeps its own.
    acts = healer.decide(paths({("south", "a")}), backends())
    assert [act[:3] for act in acts] == [("hold", "a", "south"), ("release", "a", "")]
    # To and fro is flapping, and that waits.
    acts = healer.decide(paths(everywhere("a")), backends())
    assert acts == [Act("renew", "a", "south", "slow")]
    assert healer.withheld == [("a", "", "an act against it 0 s ago")]


def test_a_wider_hold_that_is_refused_leaves_the_narrow_one_and_is_tried_again():
    clock = ManualClock()
    healer = Healer(RULE, clock)
    healer.decide(paths({("north", "a")}), backends())
    wide, kept = healer.decide(paths(everywhere("a")), backends())
    assert (wide.node, kept) == ("", Act("renew", "a", "north", "slow"))
    healer.undone(wide)
    assert healer.decide(paths(everywhere("a")), backends()) == [kept]
    clock.advance(5.0)
    assert healer.decide(paths(everywhere("a")), backends()) == [wide, kept]


def test_the_last_healthy_backend_of_a_model_is_left_alone_and_that_is_told_once():
    healer = Healer(RULE, ManualClock())
    for _ in range(3):
        assert healer.decide(paths(everywhere("lone")), backends()) == []
    assert healer.withheld == []
    healer = Healer(RULE, ManualClock())
    healer.decide(paths(everywhere("lone")), backends())
    assert healer.withheld == [("lone", "", "the last healthy backend of own")]
    # Where the other one is down, or sick as well, this one is the last.
    assert Healer(RULE, ManualClock()).decide(paths(everywhere("a")), backends({"b"})) == []
    assert Healer(RULE, ManualClock()).decide(paths(everywhere("a", "b", "c")), backends()) == []


def test_a_restart_is_asked_for_once_when_holding_did_not_help():
    clock = ManualClock()
    healer = Healer(RULE, clock)
    healer.decide(paths(everywhere("a")), backends())
    clock.advance(19.0)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["renew"]
    clock.advance(2.0)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["renew", "restart"]
    clock.advance(60.0)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["renew"]


def test_a_restart_that_nobody_took_is_asked_for_again_later():
    clock = ManualClock()
    healer = Healer(RULE, clock)
    healer.decide(paths(everywhere("a")), backends())
    clock.advance(21.0)
    (_, restart) = healer.decide(paths(everywhere("a")), backends())
    healer.undone(restart)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["renew"]
    clock.advance(21.0)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["renew", "restart"]


def test_restarts_that_nobody_takes_leave_acts_for_others():
    """No arbiter speaks for `a`: it stays held, and its restart is refused again and again."""
    clock = ManualClock()
    healer = Healer(RULE, clock)
    healer.decide(paths(everywhere("a")), backends())
    refused = 0
    for _ in range(2 * RULE.max_acts):
        clock.advance(RULE.restart_after_s)
        for act in healer.decide(paths(everywhere("a")), backends()):
            if act.kind == "restart":
                healer.undone(act)
                refused += 1
    assert refused == 2 * RULE.max_acts
    kinds = [act[:2] for act in healer.decide(paths(everywhere("a", "c")), backends())]
    assert ("hold", "c") in kinds
    # The pause is that of the hold, not of a restart that was none.
    healer.decide(paths(everywhere("c")), backends())
    kinds = [act[:2] for act in healer.decide(paths(everywhere("a", "c")), backends())]
    assert ("hold", "a") in kinds


def test_no_second_act_against_a_backend_within_the_pause():
    clock = ManualClock()
    healer = Healer(RULE, clock)
    healer.decide(paths(everywhere("a")), backends())
    healer.decide(paths(set()), backends())
    clock.advance(59.0)
    assert healer.decide(paths(everywhere("a")), backends()) == []
    assert healer.withheld[0][2].startswith("an act against it")
    clock.advance(2.0)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["hold"]


def test_a_refused_hold_is_not_believed_to_be_one():
    healer = Healer(RULE, ManualClock())
    (act,) = healer.decide(paths(everywhere("a")), backends())
    healer.undone(act)
    assert healer.held == frozenset()
    assert healer.decide(paths(set()), backends()) == []


def test_acts_that_did_not_come_about_use_nothing_up():
    clock = ManualClock()
    healer = Healer(RULE, clock)
    for _ in range(3 * RULE.max_acts):
        (act,) = healer.decide(paths(everywhere("a")), backends())
        healer.undone(act)
        assert healer.decide(paths(everywhere("a")), backends()) == [], "not at once"
        clock.advance(5.0)
    assert [act.kind for act in healer.decide(paths(everywhere("a")), backends())] == ["hold"]


class Healing(RuleBasedStateMachine):
    """Any sickness, for any time: what a healer may never do."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.healer = Healer(RULE, self.clock)
        self.acts: list[tuple[float, Act]] = []
        self.sick: set[tuple[str, str]] = set()
        self.down: set[str] = set()

    @rule(names=st.sets(st.sampled_from(sorted(MODELS))), nodes=st.sets(st.sampled_from(NODES)))
    def sicken(self, names: set[str], nodes: set[str]) -> None:
        self.sick = {(node, name) for node in nodes for name in names}

    @rule(down=st.sets(st.sampled_from(sorted(MODELS))))
    def go_down(self, down: set[str]) -> None:
        self.down = down

    @rule(seconds=st.floats(0.5, 120.0))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def decide(self) -> None:
        before = self.healer.held
        for act in self.healer.decide(paths(self.sick), backends(self.down)):
            self.acts.append((self.clock(), act))
            if act.kind == "hold":
                assert (act.backend, act.node) not in before
                for model in MODELS[act.backend]:
                    others = {
                        name
                        for name, models in MODELS.items()
                        if model in models and name != act.backend and name not in self.down
                    }
                    held = {name for name, node in self.healer.held if node in ("", act.node)}
                    assert others - held, f"{act} leaves nobody for {model}"
            if act.kind == "release":
                assert (act.backend, act.node) in before
        protected = {(name, node) for name, node in before if self.healer.held & {(name, ""), (name, node)}}
        let_go = {(name, node or "all") for name, node in before} - {(n, w or "all") for n, w in protected}
        for name, node in let_go:
            nodes = NODES if node == "all" else (node,)
            still = {one for one in nodes if (one, name) in self.sick}
            assert len(still) < len(nodes), f"{name} is sick for {nodes} and was let go"

    @invariant()
    def acts_are_few(self) -> None:
        # All holds of one episode are one act: at most one for each node and one for all.
        holds = [at for at, act in self.acts if act.kind == "hold"]
        restarts = [at for at, act in self.acts if act.kind == "restart"]
        for at in holds + restarts:
            window = [other for other in holds if at - RULE.window_s < other <= at]
            assert len(window) <= (len(NODES) + 1) * (RULE.max_acts + 1)
            assert sum(at - RULE.window_s < other <= at for other in restarts) <= RULE.max_acts
        for key in {(act.backend, act.node) for _, act in self.acts}:
            mine = [at for at, act in self.acts if act.kind == "hold" and (act.backend, act.node) == key]
            assert all(later - earlier >= RULE.pause_s for earlier, later in pairwise(mine))

    @invariant()
    def nothing_is_held_that_was_not_sick(self) -> None:
        assert {name for name, _ in self.healer.held} <= {act.backend for _, act in self.acts}


TestHealing = Healing.TestCase
TestHealing.settings = settings(max_examples=40, stateful_step_count=30)


@given(st.sets(st.sampled_from(sorted(MODELS))))
def test_a_path_that_is_well_leads_to_no_act(names):
    healer = Healer(RULE, ManualClock())
    assert healer.decide([path for path in paths(set()) if path.backend in names], backends()) == []
