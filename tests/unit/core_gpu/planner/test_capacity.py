"""`headrace plan capacity`: the arithmetic, the verdicts, and the page that shows them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from core_gpu.planner.capacity import capacity
from core_gpu.planner.figures import concurrent_users, figure
from core_gpu.planner.fleet import Fleet
from launch.cli import main

PAGE = Path(__file__).parents[4] / "docs/capacity.md"


def told(capsys, *argv):
    status = main(["plan", "capacity", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def figures(capsys, *argv):
    status, out, _ = told(capsys, *argv, "--json")
    assert status == 0
    return {f"{each['table']}: {each['name']} {each['unit']}": each for each in json.loads(out)["figures"]}


def test_the_plans_figures_are_judged_one_by_one(capsys):
    found = figures(capsys)
    for name, value, verdict in (
        ("models: GPU memory GB", 768, "follows"),
        ("models: models that fit models", 1_536, "follows"),
        ("users: users per server users", 711.1, "follows"),
        ("users: users per monolithic box users", 88.9, "follows"),
        ("users: gain by separation times", 8, "does not follow"),
        ("cost: per user, inference only $", 56.3, "follows"),
        ("cost: monolithic boxes boxes", 9, "does not follow"),
        ("cost: saving, all %", 60, "does not follow"),
        ("bandwidth: PNG, all users Gbit/s", 42.6, "follows"),
        ("bandwidth: raw mouth region MB", 1.2288, "rounded"),
        ("bandwidth: raw, to compositing Gbit/s", 47.1, "rounded"),
        ("bandwidth: raw, to inference Gbit/s", 95.5, "does not follow"),
        ("bandwidth: raw, both directions Gbit/s", 142.6, "does not follow"),
        ("compositing: backgrounds in memory models", 1_462.9, "does not follow"),
        ("6 GB: Qwen2.5 7B Q5_K_M GB", 5.44, "rounded"),
        ("6 GB: 10,000 tokens, Llama 3.1 8B GB", 1.31, "does not follow"),
    ):
        assert found[name]["value"] == pytest.approx(value, rel=0.002), name
        assert found[name]["verdict"] == verdict, name
    assert all(each["note"] for each in found.values() if each["verdict"] == "does not follow")
    assert all(each["arithmetic"] for each in found.values())


def test_every_parameter_changes_something(capsys):
    plain = capacity(Fleet())
    for name in Fleet.__dataclass_fields__:
        changed = capacity(Fleet(**{name: getattr(Fleet(), name) * 0.5}))
        assert [each.value for each in changed] != [each.value for each in plain] or name in {"cap", "link_gbps"}, (
            name
        )
    assert figures(capsys, "--gpus", "4")["models: GPU memory GB"]["value"] == 384


def test_changed_parameters_are_named(capsys):
    _, out, _ = told(capsys, "--duty", "0.5", "--value-bytes", "1")
    assert "though you changed: duty, value_bytes" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--users 0", "--users: expected more than 0"),
        ("--duty 1.2", "--duty: expected a share of at most 1, got 1.2"),
        ("--fps nan", "--fps: expected more than 0"),
        ("--gpus -1", "--gpus: expected more than 0"),
        ("--gpus eight", "argument --gpus: invalid float value: 'eight'"),
        ("--gpuz 8", "unknown option --gpuz"),
    ],
)
def test_a_parameter_that_cannot_be_computed_with(capsys, argv, message):
    status, out, err = told(capsys, *argv.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_the_page_shows_what_the_command_prints(capsys):
    """Written anew: headrace plan capacity --markdown, beneath the page's first heading of that level."""
    _, out, _ = told(capsys, "--markdown")
    text = PAGE.read_text()
    assert text[text.index("### ") :] == out


def test_the_number_of_speakers_is_what_chance_would_make_it():
    users = concurrent_users(192, 0.27, 0.001)
    chance = random.Random(4)
    overloads = sum(sum(chance.random() < 0.27 for _ in range(users)) > 192 for _ in range(2_000))
    assert overloads <= 12
    assert concurrent_users(192, 1.0, 0.5) == 192
    assert concurrent_users(0.01, 0.9, 0.001) == 0


def test_a_claim_is_right_within_rounding():
    verdicts = [figure("t", "n", "a", 100, "u", claimed).verdict for claimed in (100, 101, 97, 80, None)]
    assert verdicts == ["follows", "follows", "rounded", "does not follow", None]
