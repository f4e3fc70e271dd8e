"""`headrace arbiter run -- COMMAND`: real arbiter, real engine processes, every way a start can go."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from launch.cli import main
from streamkit.wire.pb import modelops_pb2 as pb
from tests.support.arbiter import arbiter
from tests.support.processes import alive, running, until

#: Answers 200 at /health once the file named first is there; writes its pid into the second.
ENGINE = """
import http.server, os, pathlib, sys
gate, pid, port = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
pid.write_text(str(os.getpid()))
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if gate.exists() else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Door).serve_forever()
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with arbiter(tmp_path_factory.mktemp("arbiter"), "static_gpus_mb = [24000]") as process:
        yield process


@pytest.fixture
def desk(shared):
    """The module's arbiter, with nothing held before a test or after it."""
    for lease in shared.leases():
        shared.release(lease.lease_id)
    until(lambda: not shared.leases(), what="an empty ledger")
    return shared


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Rig:
    def __init__(self, folder: Path, address: str):
        self.folder, self.address, self.port = folder, address, free_port()
        self.gate, self.pid_file = folder / "gate", folder / "pid"

    def line(self, *command: str, **options: object) -> list[str]:
        given = {"mb": 9000, "health": f"http://127.0.0.1:{self.port}/health", "name": "vllm", **options}
        words = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        engine = command or (sys.executable, "-c", ENGINE, str(self.gate), str(self.pid_file), str(self.port))
        return [sys.executable, "-m", "launch", "arbiter", "run", "--arbiter", self.address, *words, "--", *engine]

    def pid(self) -> int:
        return int(until(lambda: self.pid_file.exists() and self.pid_file.read_text(), what="the engine's pid"))


@pytest.fixture
def rig(tmp_path: Path, desk):
    return Rig(tmp_path, desk.address)


def test_the_gpu_is_frozen_until_the_engine_is_healthy_and_its_lease_is_its_life(desk, rig, tmp_path):
    with running(rig.line(model="qwen"), tmp_path, name="run") as run:
        engine = rig.pid()
        state = until(lambda: (s := desk.state()).gpus[0].startup_client and s, what="the barrier")
        assert state.gpus[0].startup_client == "vllm"
        refused = desk.acquire(1000)
        assert (refused.granted, refused.code) == (False, pb.REFUSAL_FROZEN)
        assert [(lease.client, lease.model_name, lease.vram_reserved_mb) for lease in desk.leases()] == [
            ("vllm", "qwen", 9000)
        ]
        rig.gate.touch()
        until(lambda: not desk.state().gpus[0].startup_client, what="the barrier comes down")
        assert desk.acquire(1000).granted
        lease = until(lambda: next((each for each in desk.leases() if each.loaded), None), what="loaded")
        assert engine in lease.pids
        run.send(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM
        assert not alive(engine)
        until(lambda: [lease.client for lease in desk.leases()] == ["test"], what="the lease is back")
        assert "9000 MiB of GPU 0 are reserved" in run.output()
        assert "healthy after" in run.output()


def test_an_engine_that_ends_before_it_is_healthy_ends_the_barrier_and_the_lease(desk, rig, tmp_path):
    with running(rig.line(sys.executable, "-c", "raise SystemExit(3)"), tmp_path, name="run") as run:
        assert run.wait() == 3
    assert not desk.state().gpus[0].startup_client
    until(lambda: not desk.leases(), what="the lease is back")


def test_an_engine_that_is_never_healthy_is_ended_at_the_deadline(desk, rig, tmp_path):
    with running(rig.line(deadline_ms=1_500), tmp_path, name="run") as run:
        engine = rig.pid()
        assert run.wait() == 1
        assert not alive(engine)
        assert "not healthy within 1.5 s: ended" in run.output()
    assert not desk.state().gpus[0].startup_client
    until(lambda: not desk.leases(), what="the lease is back")


def test_without_memory_nothing_is_started(desk, rig, tmp_path):
    with running(rig.line(mb=30_000, wait_ms=0), tmp_path, name="run") as run:
        assert run.wait() == 75
        assert "fit on no GPU" in run.output()
    assert not rig.pid_file.exists()
    assert not desk.leases()


def test_two_start_one_after_the_other(desk, rig, tmp_path):
    second = Rig(tmp_path, desk.address)
    second.gate, second.pid_file = tmp_path / "gate2", tmp_path / "pid2"
    with running(rig.line(), tmp_path, name="one") as one:
        rig.pid()
        # Memory is granted nowhere while the first one starts: the second waits for it, then for the barrier.
        with running(second.line(name="two"), tmp_path, name="two") as two:
            until(lambda: desk.state().waiting == 1, what="the second waits")
            assert not second.pid_file.exists()
            rig.gate.touch()
            second.pid()
            second.gate.touch()
            until(lambda: "healthy after" in two.output(), what="the second is up")
            for run in (one, two):
                run.send(signal.SIGTERM)
                run.wait()


def test_a_signal_while_it_waits_for_memory_leaves_nothing(desk, rig, tmp_path):
    held = desk.acquire(20_000)
    with running(rig.line(), tmp_path, name="run") as run:
        until(lambda: desk.state().waiting == 1, what="it waits")
        run.send(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM
    until(lambda: desk.state().waiting == 0, what="it left the line")
    assert [lease.lease_id for lease in desk.leases()] == [held.lease_id]
    assert not rig.pid_file.exists()


def test_the_arbiters_end_does_not_end_the_engine(tmp_path):
    with (
        arbiter(tmp_path, "static_gpus_mb = [24000]") as desk,
        running((rig := Rig(tmp_path, desk.address)).line(), tmp_path, name="run") as run,
    ):
        engine = rig.pid()
        rig.gate.touch()
        until(lambda: "healthy after" in run.output(), what="it is up")
        desk.running.stop()
        assert alive(engine)
        run.send(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM


def test_a_budget_gives_memory_flags_and_environment(desk, tmp_path):
    """vLLM's stand-in: a script of that name, which starts the simulator on the port that the plan gives it."""
    port = free_port()
    shelf = tmp_path / "bin"
    shelf.mkdir()
    script = shelf / "vllm"
    script.write_text(
        f'#!/bin/sh\nenv > {tmp_path}/environment\necho "$@" > {tmp_path}/arguments\n'
        f"exec {sys.executable} -m launch simulate --port {port}\n"
    )
    script.chmod(0o755)
    file = tmp_path / "modes.toml"
    file.write_text(
        f'[[budgets]]\nname = "chat"\nengine = "vllm"\nmodel = "Qwen/Qwen2.5-7B-Instruct-AWQ"\nbudget_mb = 9000\n'
        f'kv = "fp8"\nport = {port}\nsleep = true\n'
    )
    line = [sys.executable, "-m", "launch", "arbiter", "run", "--arbiter", desk.address]
    line += ["--config", str(file), "--budget", "chat"]
    path = {"PATH": f"{shelf}:/usr/bin:/bin"}
    with running(line, tmp_path, name="run", environment=path) as run:
        until(lambda: "healthy after" in run.output(), ms=30_000, what=run.output())
        assert [(lease.client, lease.vram_reserved_mb) for lease in desk.leases()] == [("chat", 9000)]
        assert "--kv-cache-memory-bytes" in (tmp_path / "arguments").read_text()
        assert "VLLM_SERVER_DEV_MODE=1" in (tmp_path / "environment").read_text()
        run.send(signal.SIGTERM)
        run.wait()
    until(lambda: not desk.leases(), what="the lease is back")


def test_files_that_a_budgets_command_names_are_there(desk, tmp_path):
    """TensorFlow Serving's stand-in shows its batching file and ends."""
    script = tmp_path / "tensorflow_model_server"
    script.write_text(
        '#!/bin/sh\nfor word in "$@"; do case $word in --batching_parameters_file=*) cat "${word#*=}" ;; esac; done\n'
        "exit 3\n"
    )
    script.chmod(0o755)
    file = tmp_path / "modes.toml"
    file.write_text('[[budgets]]\nname = "tf"\nengine = "tfserving"\nbudget_mb = 3000\nmodel_path = "/models/x"\n')
    line = [sys.executable, "-m", "launch", "arbiter", "run", "--arbiter", desk.address]
    line += ["--config", str(file), "--budget", "tf"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    with running(line, tmp_path, name="run", environment=environment) as run:
        assert run.wait() == 3
        assert "num_batch_threads { value: 4 }" in run.output()
    assert not list(tmp_path.glob("headrace-engine-*")), "they go with it"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "missing: the command to run, behind --"),
        ("-- x", "--mb: missing: how much to reserve"),
        ("--mb 0 -- x", "--mb: expected 1 to 10,000,000, got 0"),
        ("--mb 1 -- x", "--health: missing: where to ask whether it is up"),
        (
            "--mb 1 --health ftp://x -- x",
            "--health: expected http://HOST:PORT/PATH or tcp://HOST:PORT, got 'ftp://x'",
        ),
        ("--mb 1 --health tcp://x -- x", "--health: expected a port from 1 to 65535"),
        ("--mb 1 --deadline-ms 0 -- x", "--deadline-ms: expected 1 to 86,400,000, got 0"),
        ("--priority 10 -- x", "--priority: expected 0 to 9, got 10"),
        ("--budget chat -- x", '--budget: no budget "chat" in no --config FILE'),
        ("--zzz -- x", "unknown option --zzz"),
    ],
)
def test_a_mistake_is_one_line(capsys, argv, message):
    assert main(["arbiter", "run", *argv.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("headrace arbiter run: ")
    assert message in err


def test_nobody_at_the_arbiters_address(capsys):
    port = free_port()
    line = f"--arbiter 127.0.0.1:{port} --mb 1 --health tcp://127.0.0.1:1 -- true"
    assert main(["arbiter", "run", *line.split()]) == 75
    assert f"no arbiter answers at 127.0.0.1:{port} (UNAVAILABLE)" in capsys.readouterr().err


def test_a_command_that_is_not_there(desk, capsys):
    line = f"--arbiter {desk.address} --mb 100 --health tcp://127.0.0.1:1 -- no-such-command"
    assert main(["arbiter", "run", *line.split()]) == 2
    assert "no-such-command: cannot be started: No such file" in capsys.readouterr().err
    assert not desk.state().gpus[0].startup_client
    until(lambda: not desk.leases(), what="the lease is back")
