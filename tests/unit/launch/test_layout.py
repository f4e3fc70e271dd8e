"""What `headrace up` writes down of its services, and takes of a file that has changed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from launch import config
from launch.layout import Layout

ONE = '[[backends]]\nname = "a"\nengine = "vllm"\nurl = "http://127.0.0.1:8000"\n'
#: Tables that a running machine cannot take, each changed in one key.
CHANGES = {
    "[control]": "probe_interval_ms = 700\n",
    "[arbiter]": "margin_mb = 1\n",
    "[inference]": "threads_per_worker = 3\n",
    "[compositor]": "threads = 3\n",
    "[nats]": "port = 9999\n",
    "[observe]": 'site = "here"\n',
    "[[avatars]]": 'id = "anna"\n',
}


@pytest.fixture
def laid_out(tmp_path: Path):
    def made(text: str) -> Layout:
        return Layout(read(text), tmp_path)

    def read(text: str) -> config.Configuration:
        file = tmp_path / "given.toml"
        file.write_text(text)
        return config.load(file)

    made.read = read
    return made


@pytest.mark.parametrize("changed", CHANGES)
def test_what_needs_a_restart_is_said_of_every_table(laid_out, changed: str):
    names = [name for name in CHANGES if name != "[[avatars]]"]
    text = ONE + "".join(f"{name}\n" for name in names)
    layout = laid_out(text)
    after = text.replace(f"{changed}\n", f"{changed}\n{CHANGES[changed]}") if changed in names else text
    if changed not in names:
        after += f"{changed}\n{CHANGES[changed]}"
    assert layout.take(laid_out.read(text)) == []
    assert layout.take(laid_out.read(after)) == [changed]


def test_backends_models_and_an_edge_with_workers_are_taken(laid_out):
    layout = laid_out(ONE + "[edge]\nworkers = 2\n")
    more = ONE + ONE.replace('"a"', '"b"').replace("8000", "8001") + '[[aliases]]\nname = "x"\nmodels = ["y"]\n'
    assert layout.take(laid_out.read(more + "[edge]\nworkers = 2\nidle_ms = 7_000\n")) == []
    written = tomllib.loads(layout.file.read_text())
    assert [backend["name"] for backend in written["backends"]] == ["a", "b"]
    assert written["aliases"][0]["name"] == "x"
    assert written["edge"]["idle_ms"] == 7_000


def test_an_edge_without_workers_says_what_it_could_not_take_and_keeps_its_place(laid_out):
    layout = laid_out(ONE)
    assert layout.take(laid_out.read(ONE + "[edge]\nport = 9999\nidle_ms = 7_000\n")) == ["edge.port", "edge.idle_ms"]
    assert layout.plan.edge.port == 7400
