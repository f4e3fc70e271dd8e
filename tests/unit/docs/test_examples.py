"""Every example configuration is one that its machine could run."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch import config
from launch.cli import main

ROOT = Path(__file__).parents[3]
TEN = ROOT / "docs/examples/ten-nodes"
SERVICES = {
    **{f"stream-node-0{number}.toml": ["edge"] for number in (3, 4, 5, 6)},
    "okome.toml": ["control"],
    "core.toml": ["arbiter", "inference"],
    "observability.toml": ["observe"],
    "speculative-07.toml": ["arbiter"],
    "speculative-08.toml": ["arbiter"],
}


def services(names: list[str]) -> list[str]:
    return [word for name in names for word in ("--service", name)]


def test_every_file_has_its_services():
    assert {path.name for path in TEN.glob("*.toml")} == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_file_is_valid_for_its_machine(capsys, name):
    status = main(["check", str(TEN / name), *services(SERVICES[name])])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "valid" in out
    assert all(service in out for service in SERVICES[name])


def test_machines_name_each_other_as_they_are():
    edge = config.section(str(TEN / "stream-node-03.toml"), "edge")
    control = config.section(str(TEN / "okome.toml"), "control")
    assert edge.control_url == f"http://{control.host}:{control.port}"
    assert edge.control_secret_env == control.edge_secret_env
    named = {backend.name: backend.url for backend in config.backends(str(TEN / "okome.toml"))}
    for name in ("core.toml", "speculative-07.toml", "speculative-08.toml"):
        path = str(TEN / name)
        assert config.section(path, "arbiter").nats_url == control.nats_url
        budgets = {budget.name for budget in config.budgets(path)}
        for backend in config.backends(path):
            assert named[backend.name] == backend.url, "control and the arbiter must mean the same engine"
            assert backend.name in budgets


def test_stream_nodes_are_alike_but_for_their_addresses_and_are_reached_by_what_their_certificates_name():
    texts = {
        (TEN / f"stream-node-0{number}.toml")
        .read_text()
        .replace(f"0{number}", "0N")
        .replace(f"10.0.0.4{number}", "N")
        for number in (3, 4, 5, 6)
    }
    assert len(texts) == 1
    edge = config.section(str(TEN / "stream-node-05.toml"), "edge")
    # Empty = the address that it listens on, which must be one that others reach.
    assert (edge.peer_host, edge.peer_name) == ("10.0.0.45", "")


def test_the_prober_and_the_feeds_reach_what_there_is():
    edge = config.section(str(TEN / "stream-node-03.toml"), "edge")
    observe = config.section(str(TEN / "observability.toml"), "observe")
    nodes = [f"10.0.0.{host}" for host in (43, 44, 45, 46)]
    ops = {f"http://{node}:{edge.ops_port + worker}" for node in nodes for worker in range(edge.workers)}
    assert {feed.partition("=")[2] for feed in observe.feeds if feed.startswith("edge")} == ops
    prober = config.section(str(TEN / "observability.toml"), "prober")
    assert set(prober.edges) == {f"http://{node}:{edge.port}" for node in nodes}
    assert observe.nats_url == config.section(str(TEN / "okome.toml"), "control").nats_url


def test_a_service_that_is_none_is_told(capsys):
    assert main(["check", str(TEN / "core.toml"), "--service", "arbitr"]) == 2
    assert 'no service "arbitr", did you mean "arbiter"' in capsys.readouterr().err


def test_a_file_whose_budgets_do_not_hold_is_refused_for_one_service_too(capsys, tmp_path):
    path = tmp_path / "core.toml"
    path.write_text((TEN / "core.toml").read_text().replace("budget_mb = 9_000", "budget_mb = 19_000"))
    assert main(["check", str(path), "--service", "arbiter"]) == 2
    assert "more than" in capsys.readouterr().err
