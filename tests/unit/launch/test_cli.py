from __future__ import annotations

import socket
from pathlib import Path

import pytest

from launch.cli import main


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(argv)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["up", "--prot-base", "1"], 'headrace up: unknown option --prot-base, did you mean "--port-base"?'),
        (["up", "--zzz"], "headrace up: unknown option --zzz"),
        (["up", "--port", "1"], "headrace up: unknown option --port"),
        (["up", "extra"], 'headrace up: unexpected "extra"'),
        (["up", "--port-base", "x"], "headrace up: argument --port-base: expected a port from 0 to 65535, got x"),
        (["up", "--port-base", "70000"], "headrace up: argument --port-base: expected a port"),
        (["edge", "--port"], "headrace edge: argument --port: expected one argument"),
        (["chekc", "x"], 'headrace: no command "chekc", did you mean "check"?'),
        (
            ["observe", "--role", "x"],
            "headrace observe: command line: observe.role: expected one of",
        ),
        (["events", "--since", "1w"], "headrace events: argument --since: expected a length of time"),
        (["trace"], "headrace trace: missing: REQUEST-ID"),
        (["usage", "--by", "day"], "headrace usage: argument --by: expected some of tenant,key,model,backend"),
        (["check"], "headrace check: missing: FILE"),
        (["check", "none.toml"], "headrace check: none.toml: no such file"),
        (["edge", "--config", "none.toml"], "headrace edge: none.toml: no such file"),
        (["simulate", "--fault", "bad=fault"], "headrace simulate: command line: simulator: "),
        (
            ["up", "--ready-file", "no/such/folder"],
            "headrace up: argument --ready-file: expected a file to write",
        ),
        (
            ["up", "--port-base", "65500"],
            "headrace up: command line: nats.port: expected a port of at most 65535",
        ),
        (["up", "--edge-port", "7401"], "headrace up: command line: control.port: 7401 is edge.port already"),
        (["metrics", "extra"], 'headrace metrics: unexpected "extra"'),
        (["bench", "relay", "--run", "3"], 'headrace bench relay: unknown option --run, did you mean "--runs"?'),
        (["chaos", "--to", "8000"], "headrace chaos: argument --to: expected HOST:PORT, such as 127.0.0.1:8000"),
        (["bench", "nope"], 'headrace bench: no benchmark "nope"; there is: relay'),
    ],
)
def test_a_mistake_is_one_line_and_two(capsys, argv, line):
    status, out, err = told(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_help_fits_a_terminal(capsys):
    status, out, _ = told(capsys, "--help")
    assert status == 0
    for command in (
        "up",
        "chat",
        "check",
        "edge",
        "control",
        "simulate",
        "plan vram",
        "plan modes",
        "plan capacity",
        "bench relay",
    ):
        assert f"\n  {command}" in out
        argv = command.split()[:1]
        status, page, _ = told(capsys, *argv, "--help")
        assert status == 0
        assert max(map(len, page.splitlines())) <= 80
    assert max(map(len, out.splitlines())) <= 80


def test_no_command_shows_them_all(capsys):
    status, _, err = told(capsys)
    assert status == 2
    assert "start here" in err


def test_the_version(capsys):
    status, out, _ = told(capsys, "--version")
    assert status == 0
    assert out.startswith("headrace ")


def test_check_says_what_would_run(capsys, tmp_path: Path):
    path = tmp_path / "headrace.toml"
    path.write_text('[simulator]\n[[backends]]\nname = "a"\nengine = "ollama"\nurl = "http://gpu:11434"\n')
    status, out, err = told(capsys, "check", str(path))
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["a", "http://gpu:11434", "real", "ollama"] in rows
    assert ["simulator-vllm", "http://127.0.0.1:7430", "simulated", "sim-chat"] in rows
    assert ["edge", "http://127.0.0.1:7400", "real"] in rows


def test_check_refuses_in_one_line(capsys, tmp_path: Path):
    path = tmp_path / "headrace.toml"
    path.write_text("[edge]\nport = 70000\n")
    status, out, err = told(capsys, "check", str(path))
    assert (status, out) == (2, "")
    assert err == f"headrace check: {path}: edge.port: expected int <= 65535, got 70000\n"


def test_control_alone_on_a_taken_port_is_one_line(capfd, tmp_path: Path):
    path = tmp_path / "headrace.toml"
    path.write_text("[control]\nops_port = 0\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["control", "--config", str(path), "--port", str(port)])
    assert status == 2
    assert capfd.readouterr().err == f"control: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("service", "text", "line"),
    [
        ("observe", '[prober]\nedgs = ["http://edge"]\n', "prober.edgs: unknown key"),
        ("observe", '[healing]\nmode = "of"\n', "healing.mode: expected one of"),
        ("compositor", "[speech]\nespek = false\n", "speech.espek: unknown key"),
    ],
)  # fmt: skip
def test_a_check_of_one_service_reads_the_tables_beside_its_own(capsys, tmp_path: Path, service, text, line):
    path = tmp_path / "node.toml"
    path.write_text(text)
    status, _, err = told(capsys, "check", str(path), "--service", service)
    assert status == 2
    assert line in err
    assert told(capsys, "check", str(path), "--service", "control")[0] == 0, "nobody here reads it"
