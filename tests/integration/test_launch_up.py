"""`headrace up`: real processes, real ports, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control.store import Store
from tests.support.gateway import Gateway, gateway, start_gateway  # noqa: F401  pytest finds the fixture by its name
from tests.support.processes import Running, alive, launch, until

#: Nobody answers there; what is tested is the launcher.
LONELY = """
[[backends]]
name = "elsewhere"
engine = "vllm"
url = "http://127.0.0.1:9"
"""
Up = Callable[..., Running]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    (tmp_path / "given.toml").write_text(LONELY)
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Running:
            return stack.enter_context(launch("up", "--config", "given.toml", *arguments, folder=tmp_path))

        yield start


def pids(running: Running) -> dict[str, int]:
    return {entry["name"]: entry["pid"] for entry in running.ready()["services"] if entry["pid"]}


def free_base() -> int:
    """Return a base whose ports are free just now, outside the range that the kernel hands out."""
    for base in range(20_000 + os.getpid() % 100 * 50, 32_000, 50):
        with contextlib.ExitStack() as stack:
            try:
                for offset in (0, 1, 10, 29, 30):
                    stack.enter_context(socket.create_server(("127.0.0.1", base + offset)))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


def test_the_whole_gateway_streams_an_answer(gateway: Gateway):  # noqa: F811
    assert set(gateway.pids) == {"edge", "control", "simulator-vllm"}
    with urllib.request.urlopen(f"{gateway.edge_ops_url}/readyz", timeout=5) as answer:
        assert json.load(answer)["ready"]
    line = [sys.executable, "-m", "launch", "chat", "Hello", "--json", "--url", gateway.edge_url]
    done = subprocess.run(line, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["backend"] == "simulator-vllm"
    assert found["tokens"] > 0


def test_a_stopped_gateway_leaves_nothing():
    ours = start_gateway(LONELY)
    children = ours.pids.values()
    assert ours.stop() == 0
    assert not any(map(alive, children))


def test_it_says_what_runs_and_where(up: Up, tmp_path: Path):
    base = free_base()
    running = up("--port-base", str(base))
    services = {entry["name"]: entry for entry in running.ready()["services"]}
    assert services["edge"]["url"] == f"http://127.0.0.1:{base}"
    assert services["edge"]["ops_url"] == f"http://127.0.0.1:{base + 10}"
    assert services["control"]["url"] == f"http://127.0.0.1:{base + 1}"
    assert services["elsewhere"] == {
        "name": "elsewhere", "url": "http://127.0.0.1:9", "ops_url": None, "pid": None, "kind": "engine",
    }  # fmt: skip
    written = tmp_path / ".headrace" / str(base) / "headrace.toml"
    assert tomllib.loads(written.read_text())["backends"][0]["name"] == "elsewhere"
    running.send(signal.SIGINT)
    assert running.wait() == 0
    said = running.output()
    assert f".headrace/{base}/headrace.toml" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "\x1b" not in said
    assert not running.ready_file.exists()


def test_started_again_with_keys_it_says_why_it_lists_no_models(up: Up, tmp_path: Path):
    base = free_base()
    with Store(tmp_path / ".headrace" / str(base) / "control.db", create=True) as store:
        store.create_key("me")
    running = up("--port-base", str(base))
    running.ready()
    until(lambda: "Ctrl-C" in running.output(), what="it has said all")
    assert "models are not listed: every request needs a key" in running.output()
    assert "are the backends running" not in running.output()


def test_a_second_one_on_the_same_ports_is_told_who_has_them(up: Up, tmp_path: Path):
    base = free_base()
    up("--port-base", str(base)).ready()
    with launch("up", "--config", "given.toml", "--port-base", str(base), folder=tmp_path, name="second") as second:
        assert second.wait() == 2
    assert f"runs on port {base} already" in second.output()
    assert second.output().count("\n") == 1


def test_a_taken_port_is_two_and_leaves_nothing(up: Up):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = up("--port-base", "0", "--edge-port", str(taken.getsockname()[1]))
        assert running.wait(ms=30_000) == 2
    assert "Address already in use" in running.output()


def test_a_service_that_dies_is_reported_and_comes_back_where_it_was(up: Up):
    running = up("--port-base", "0")
    before = {entry["name"]: entry for entry in running.ready()["services"]}
    os.kill(before["control"]["pid"], signal.SIGKILL)
    until(lambda: pids(running)["control"] != before["control"]["pid"], what="control's restart")
    after = {entry["name"]: entry for entry in running.ready()["services"]}
    assert after["control"]["url"] == before["control"]["url"]
    assert after["control"]["ops_url"] == before["control"]["ops_url"]
    assert after["edge"] == before["edge"]
    assert "control was ended by SIGKILL" in running.output()
    assert running.stop() == 0


def test_children_leave_with_a_killed_up(up: Up):
    running = up("--port-base", "0")
    children = pids(running).values()
    running.send(signal.SIGKILL)
    running.wait()
    until(lambda: not any(map(alive, children)), what="the children's end")


def test_a_bad_file_is_one_line_and_two(tmp_path: Path):
    (tmp_path / "bad.toml").write_text(LONELY.replace('"vllm"', '"vlm"'))
    with launch("up", "--config", "bad.toml", "--port-base", "0", folder=tmp_path) as running:
        assert running.wait() == 2
    assert running.output().startswith("headrace up: bad.toml: backends[0].engine: expected one of ")
    assert running.output().count("\n") == 1


def test_arbiter_and_nats_run_where_the_file_names_them(up: Up, tmp_path: Path):
    (tmp_path / "given.toml").write_text(
        LONELY + '[arbiter]\ninventory = "static"\nstatic_gpus_mb = [6144]\n[nats]\n'
    )
    running = up("--port-base", "0")
    (ours,) = [entry for entry in running.ready()["services"] if entry["name"] == "arbiter"]
    assert ours["kind"] == "arbiter"
    with urllib.request.urlopen(f"{ours['ops_url']}/readyz", timeout=5) as answer:
        assert json.load(answer)["ready"]
    (row,) = [line for line in running.output().splitlines() if line.startswith("  arbiter ")]
    assert row.split(maxsplit=3)[1:] == [ours["url"], "real", "leases, 1 GPU (static)"]
    (nats,) = [entry for entry in running.ready()["services"] if entry["name"] == "nats"]
    assert any(line.split()[:2] == ["nats", nats["url"]] for line in running.output().splitlines())
    services = {entry["name"]: entry for entry in running.ready()["services"]}
    for name in ("arbiter", "control"):

        def connected(url: str = services[name]["ops_url"]) -> bool:
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                return b"\nheadrace_nats_connected 1.0" in answer.read()

        until(connected, what=f"{name} finds NATS")
    os.kill(nats["pid"], signal.SIGKILL)
    until(lambda: pids(running)["nats"] != nats["pid"], what="another NATS server, where the first one was")
    assert next(entry for entry in running.ready()["services"] if entry["name"] == "nats")["url"] == nats["url"]
    children = pids(running).values()
    assert running.stop() == 0
    assert not any(map(alive, children))
