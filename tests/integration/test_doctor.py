"""`headrace doctor` beside a running gateway, and before a real TURN server."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.doctor import neighbours
from launch.doctor.stun import parsed
from tests.support import needs
from tests.support.gateway import Gateway
from tests.support.processes import running, until
from tests.support.timing import FACTOR

pytestmark = pytest.mark.slow


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit status, and what was found by the name of its check."""
    done = subprocess.run(
        [sys.executable, "-m", "launch", "doctor", "--json", *arguments],
        capture_output=True, text=True, check=False, timeout=60 * FACTOR,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)["findings"]}


def test_beside_a_gateway_that_runs_nothing_fails(gateway: Gateway):
    (path,) = re.findall(r"configuration +(\S+)", gateway.up.output())
    text = Path(path).read_text()
    # What runs on free ports has them in its ready file; the file still says that any will do.
    for name, url, ops_url in (
        ("edge", gateway.edge_url, gateway.edge_ops_url),
        ("control", gateway.control_url, gateway.control_ops_url),
    ):
        ports = f"[{name}]\nport = {url.rsplit(':', 1)[1]}\nops_port = {ops_url.rsplit(':', 1)[1]}\n"
        text = re.sub(rf"\[{name}\]\n((?:(?!\[).*\n)*)", lambda match, ports=ports: ports + _without(match[1]), text)
    given = Path(path).with_name("doctor.toml")
    given.write_text(text)
    status, found = doctor("--config", str(given), "--service", "edge", "--service", "control")
    assert status == 0, [each for each in found.values() if each["verdict"] == "fail"]
    for key in ("edge.port", "edge.ops_port", "control.port", "control.ops_port"):
        assert "held by Headrace" in found[f"port.{key}"]["seen"]
    assert found["engine.simulator-vllm"]["verdict"] == "ok"
    assert found["version.simulator-vllm"]["verdict"] == "ok"
    alone = given.with_name("edge.toml")
    alone.write_text(f'[edge]\nport = 0\nops_port = 0\ncontrol_url = "{gateway.control_url}"\n')
    status, found = doctor("--config", str(alone), "--service", "edge")
    assert (status, found["control"]["verdict"]) == (0, "ok")
    alone.write_text(f'[edge]\nport = 0\nops_port = 0\ncontrol_url = "{gateway.edge_url}"\n')
    status, found = doctor("--config", str(alone), "--service", "edge")
    assert (status, found["control"]["verdict"]) == (1, "fail"), "an edge is no control"


def _without(table: str) -> str:
    return "".join(line for line in table.splitlines(keepends=True) if not line.startswith(("port", "ops_port")))


@pytest.fixture(params=["secret", "open"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A real coturn on loopback: one that asks for credentials, and one that relays for anybody."""
    program = needs.program("turnserver")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    asks = ["--use-auth-secret", "--static-auth-secret=x"] if request.param == "secret" else ["--no-auth"]
    line = [
        program, "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}", "--no-tls",
        "--no-dtls", "--no-cli", "--allow-loopback-peers", "--realm=test", *asks,
        f"--pidfile={tmp_path}/pid", "--log-file=stdout", "--simple-log",
    ]  # fmt: skip
    with running(line, tmp_path, name="turn") as ours:
        until(lambda: _listens(port), what=f"coturn listens: {ours.output()[-500:]}")
        yield request.param, port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_a_turn_server_is_judged_by_what_it_asks_for(relay: tuple[str, int]):
    kind, port = relay
    place = f"127.0.0.1:{port}"
    uris = [f"turn:{place}", f"turn:{place}?transport=tcp", f"stun:{place}"]

    async def asked() -> list[str]:
        return [found.verdict async for found in neighbours.relays(map(parsed, uris))]

    wanted = {"secret": "ok", "open": "warn"}[kind]
    # It listens on TCP a moment before it does on UDP.
    until(lambda: "fail" not in asyncio.run(asked()), what="coturn answers on both")
    assert asyncio.run(asked()) == [wanted, wanted, "ok"]
