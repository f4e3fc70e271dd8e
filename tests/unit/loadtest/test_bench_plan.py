from __future__ import annotations

import os

import pytest

from loadtest.relay.bench import FAILURES_MAX, Bench, Plan
from loadtest.relay.cli import main
from loadtest.relay.gateways import all_gateways
from loadtest.relay.gateways.direct import Direct
from loadtest.relay.machine import UnfitError, choose_cpus, raise_file_limit
from loadtest.relay.runs import Run
from loadtest.relay.scenarios import SCENARIOS


class Named(Direct):
    def __init__(self, name: str) -> None:
        self.name = name


class Scripted(Bench):
    """A benchmark whose runs are made up: `script` says for gateway, round and attempt how one goes."""

    def __init__(self, plan, tmp_path, script):
        super().__init__(plan, tmp_path, lambda _line: None)
        self._script = script

    def _attempt(self, gateway, scenario, number, attempt):
        void, failed = self._script(gateway.name, number, attempt)
        return Run(
            scenario=scenario.name, gateway=gateway.name, round=number, attempt=attempt, void=void, failed=failed
        )


def runs_of(tmp_path, script, *, rounds=2, repeats=2, scenarios=1):
    plan = Plan(
        gateways=[Named("a"), Named("b")],
        scenarios=SCENARIOS[:scenarios],
        rounds=rounds,
        seconds=1.0,
        repeats=repeats,
        load_cpu=0,
        gateway_cpu=1,
    )
    bench = Scripted(plan, tmp_path, script)
    bench.run()
    return [(run.gateway, run.round, run.attempt) for run in bench.runs]


def test_rounds_interleave_the_gateways(tmp_path):
    found = runs_of(tmp_path, lambda *_: (None, None))
    assert found == [("a", 1, 1), ("b", 1, 1), ("a", 2, 1), ("b", 2, 1)]


def test_a_void_run_is_repeated_in_its_place_and_not_for_ever(tmp_path):
    found = runs_of(tmp_path, lambda name, *_: ("noise" if name == "a" else None, None), rounds=1)
    assert found == [("a", 1, 1), ("a", 1, 2), ("a", 1, 3), ("b", 1, 1)]


def test_a_run_that_is_clean_at_last_is_not_repeated(tmp_path):
    found = runs_of(tmp_path, lambda _name, _number, attempt: ("noise" if attempt < 2 else None, None), rounds=1)
    assert found == [("a", 1, 1), ("a", 1, 2), ("b", 1, 1), ("b", 1, 2)]


def test_a_gateway_that_keeps_failing_is_left_out_of_the_rest(tmp_path):
    found = runs_of(tmp_path, lambda name, *_: (None, "broken" if name == "a" else None), rounds=3, scenarios=2)
    assert sum(name == "a" for name, _, _ in found) == FAILURES_MAX
    assert sum(name == "b" for name, _, _ in found) == 6


def test_names_are_told_apart():
    names = [gateway.name for gateway in all_gateways()]
    assert len(set(names)) == len(names)
    assert {"direct", "nginx", "haproxy", "headrace", "litellm", "starlette-httpx", "starlette-aiohttp"} <= set(names)
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--gateways", "apache"], "no such gateway: apache"),
        (["--scenarios", "paced-20,nope"], "no such scenario: nope"),
        (["--cpus", "0"], "LOAD,GATEWAY"),
        (["--cpus", "0,0"], "two different cores"),
        (["--gateways", "direct", "--runs", "0"], "1 to 100"),
        (["--gateways", "direct", "--seconds", "0"], "more than 0"),
    ],
)
def test_wrong_arguments_are_explained(arguments, complaint, capsys):
    if len(os.sched_getaffinity(0)) < 2 and "--cpus" not in arguments:
        pytest.skip("one core only")
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


def test_one_core_is_not_enough(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    with pytest.raises(UnfitError, match="two cores are needed"):
        choose_cpus(None)


def test_the_cores_may_be_chosen(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {2, 5, 7})
    assert choose_cpus(None) == (2, 5)
    assert choose_cpus("7,2") == (7, 2)


def test_too_few_files_are_explained():
    with pytest.raises(UnfitError, match="raise the hard limit"):
        raise_file_limit(1 << 40)
