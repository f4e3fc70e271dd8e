"""Compose, checked against the published schema, the planner's output, and the configuration that it mounts."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from core_gpu.modes.compose import compose
from core_gpu.modes.plan import plan_modes
from launch import config
from launch.cli import main
from launch.media import doubts
from tests.support import needs
from tests.unit.docker import schemas
from tests.unit.docker.dockerfile import ROOT

HERE = ROOT / "docker/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((HERE / "compose.yaml").read_text())
MODES: dict[str, Any] = yaml.safe_load((HERE / "modes.yaml").read_text())
#: What `headrace plan modes` writes, and of which file.
PLANNED = {"modes.yaml": "headrace.toml", "modes-mainpc.yaml": "mainpc.toml"}
SERVICES: dict[str, Any] = COMPOSE["services"]
PROFILES = {"all", "edge", "core", "observability", "mainpc", "pc2", "simulated"}


@pytest.mark.parametrize("name", ["compose.yaml", "webrtc.yaml", *PLANNED])
def test_it_is_compose_as_the_specification_has_it(name):
    schemas.compose(yaml.safe_load((HERE / name).read_text()))


def test_what_is_no_compose_is_told():
    wrong = {**COMPOSE, "services": {**SERVICES, "edge": {**SERVICES["edge"], "port": ["7400:7400"]}}}
    with pytest.raises(jsonschema.ValidationError, match="'port' was unexpected"):
        schemas.compose(wrong)


@pytest.mark.parametrize("name", PLANNED)
def test_the_engines_flags_are_the_planners(name: str):
    file = HERE / PLANNED[name]
    budgets = config.budgets(str(file))
    written = (HERE / name).read_text()
    assert written == compose(plan_modes(config.section(str(file), "gpu"), budgets)), (
        f"headrace plan modes --config docker/compose/{file.name} --compose docker/compose/{name}"
    )
    planned: dict[str, Any] = yaml.safe_load(written)["services"]
    assert set(planned) <= set(SERVICES), "a budget of which no service is"
    # An engine without flags takes the whole card.
    engines = {
        each for each, service in SERVICES.items() if "mainpc" in service["profiles"] and each in MODES["services"]
    }
    assert set(planned) == engines
    served = {backend.name: backend.models for backend in config.load(HERE / "headrace.toml").backends}
    for budget in budgets:
        if budget.engine == "tfserving":
            assert (budget.model,) == served[budget.name]
            assert budget.model_path == f"/models/{budget.model}"
            assert any(volume.endswith(":/models:ro") for volume in SERVICES[budget.name]["volumes"])
    for backend in config.backends(str(file)):
        host, _, port = backend.url.partition("://")[2].partition(":")
        address = "127.0.0.1" if host in SERVICES else host
        assert f"{address}:{port}:{port}" in planned[backend.name]["ports"], "where its backend is looked for"


@pytest.mark.parametrize("name", ["headrace.toml", "simulated.toml", "mainpc.toml", "pc2.toml"])
def test_what_it_mounts_is_valid(name, capsys):
    roles = {
        "headrace.toml": ("edge", "control", "arbiter", "inference", "compositor", "observe"),
        "simulated.toml": ("edge", "control", "simulator"),
        "mainpc.toml": ("control", "arbiter", "inference", "observe"),
        "pc2.toml": ("edge", "compositor", "observe"),
    }[name]
    assert main(["check", str(HERE / name), *(word for role in roles for word in ("--service", role))]) == 0, (
        capsys.readouterr().err
    )


def test_who_lives_in_anothers_namespace_publishes_nothing_itself():
    """Compose refuses it, and only when it is started."""
    for name, service in SERVICES.items():
        if "network_mode" in service:
            merged = {**service, **MODES["services"].get(name, {})}
            assert not {"ports", "networks"} & set(merged), name
            host = service["network_mode"].removeprefix("service:")
            assert set(service["profiles"]) <= set(SERVICES[host]["profiles"]), f"{name} would start without {host}"


def test_who_asks_for_leases_shares_the_arbiters_loopback_and_numbers_of_processes():
    """Compose cuts off who lives in the namespace of a service that starts again: here it is one that never does."""
    holders = {name for name, service in SERVICES.items() if service.get("network_mode") == "service:gpu-net"}
    assert holders == {"moc", "apc"}
    assert all(SERVICES[name]["pid"] == "host" for name in holders), "the driver's numbers would be somebody else's"
    assert SERVICES["gpu-net"]["entrypoint"] == ["sleep", "infinity"]
    assert SERVICES["gpu-net"]["networks"]["core_net"]["aliases"] == ["moc"]
    assert config.section(str(HERE / "headrace.toml"), "inference").arbiter.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", PLANNED)
def test_nothing_is_copied_into_a_container_whose_root_cannot_be_written(name: str):
    """Compose copies inline configs there, and refuses to where it is read-only (docker/compose#12031)."""
    for service, given in yaml.safe_load((HERE / name).read_text())["services"].items():
        assert not (given.get("configs") and SERVICES[service].get("read_only")), service


@pytest.mark.parametrize("name", ["headrace.toml", "pc2.toml"])
def test_media_leaves_by_the_ports_that_are_published_from_the_address_that_is_fixed(name: str, tmp_path: Path):
    """With the lines of the file that are for it."""
    text = re.sub(
        r"^#((?:addresses|public_addresses|port_m..) = )", r"\1", (HERE / name).read_text(), flags=re.MULTILINE
    )
    (tmp_path / name).write_text(text.replace("[edge.webrtc]\nenabled = false\n", "[edge.webrtc]\n"))
    edge = config.section(str(tmp_path / name), "edge")
    config.check_edge(edge, name)
    assert edge.webrtc.enabled
    assert doubts(edge, inside=True) == []
    override = yaml.safe_load((HERE / "webrtc.yaml").read_text())
    first, last = edge.webrtc.port_min, edge.webrtc.port_max
    assert override["services"]["edge"]["ports"] == [f"${{EDGE_ADDRESS:-0.0.0.0}}:{first}-{last}:{first}-{last}/udp"]
    (address,) = edge.webrtc.addresses
    assert override["services"]["edge"]["networks"]["core_net"]["ipv4_address"] == address
    (subnet,) = override["networks"]["core_net"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["subnet"])
    page = (ROOT / "docs/operations/avatar.md").read_text()
    assert f'addresses = ["{address}"]' in page
    assert "TURN_SECRET" in SERVICES["edge"]["environment"]


def test_every_service_is_in_a_profile_and_every_profile_has_one():
    assert all(service.get("profiles") for service in SERVICES.values()), "it would start with any profile"
    assert {name for service in SERVICES.values() for name in service["profiles"]} == PROFILES
    everything = {name for name, service in SERVICES.items() if "all" in service["profiles"]}
    assert set(SERVICES) - everything == {"simulator", "uoc-edge"}


def test_images_are_pinned_and_containers_have_few_rights():
    for name, service in SERVICES.items():
        image = service["image"].replace("${HEADRACE_VERSION:-", "").rstrip("}")
        assert ":" in image, name
        assert "latest" not in image, name
        assert "privileged" not in service, name
        if service["image"].startswith("headrace/"):
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_what_is_published_beyond_the_machine_is_the_edge_alone():
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            private = ("127.0.0.1:", "${CORE_ADDRESS:-127.0.0.1}:", "${OPS_ADDRESS:-127.0.0.1}:")
            assert port == "${EDGE_ADDRESS:-0.0.0.0}:7400:7400" or port.startswith(private), (name, port)
    assert "127.0.0.1:4222:4222" in SERVICES["nats"]["ports"], "its clients show no password"


def test_an_edge_has_the_time_that_its_drain_takes():
    edge = config.section(str(HERE / "headrace.toml"), "edge")
    grace_ms = int(SERVICES["edge"]["stop_grace_period"].removesuffix("s")) * 1_000
    assert grace_ms > edge.settle_ms + edge.drain_ms


def test_prometheus_asks_every_process_where_it_answers():
    jobs = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in yaml.safe_load((HERE / "prometheus.yml").read_text())["scrape_configs"]
    }
    found = config.load(HERE / "headrace.toml")
    assert jobs["edge"] == [f"edge:{found.edge.ops_port}"]
    assert jobs["control"] == [f"control:{found.control.ops_port}"]
    assert found.arbiter is not None
    assert found.inference is not None
    assert jobs["arbiter"] == [f"moc:{found.arbiter.ops_port}"]
    assert jobs["inference"] == [f"moc:{found.inference.ops_port}"]
    compositor = config.section(str(HERE / "headrace.toml"), "compositor")
    assert jobs["compositor"] == [f"rtap-pre:{compositor.ops_port}"]
    assert (
        found.edge.ops_host
        == found.control.ops_host
        == found.arbiter.ops_host
        == found.inference.ops_host
        == "0.0.0.0"
    )


def test_the_first_hosts_prometheus_asks_the_second_hosts_edge_where_it_is_published():
    """Names of services are known on their own host alone; what it would not hear of is an alert of its own."""
    jobs, other = (
        {
            job["job_name"]: job["static_configs"][0]["targets"]
            for job in yaml.safe_load((HERE / name).read_text())["scrape_configs"]
        }
        for name in ("prometheus-mainpc.yml", "prometheus.yml")
    )
    assert set(jobs) == set(other)
    there = {name for name, service in SERVICES.items() if "mainpc" in service["profiles"]}
    published = {
        port.split(":")[-1]
        for name in ("edge", "rtap-pre")
        for port in SERVICES[name]["ports"]
        if "OPS_ADDRESS" in port
    }
    for targets in jobs.values():
        for host, _, port in (target.partition(":") for target in targets):
            assert host in {*there, "127.0.0.1"} or (host == "192.168.1.20" and port in published), (host, port)
    assert {host for targets in jobs.values() for host in targets} >= {"192.168.1.20:7410", "192.168.1.20:7426"}


PROMETHEUS = [
    "docker/compose/prometheus.yml",
    "docker/compose/prometheus-mainpc.yml",
    "docs/examples/ten-nodes/prometheus.yml",
]


@pytest.mark.parametrize("path", PROMETHEUS)
def test_prometheus_takes_its_file_and_the_rules_that_it_mounts(path: str, tmp_path: Path):
    program = needs.program("promtool")
    (tmp_path / "rules").symlink_to(ROOT / "dashboards/rules")
    text = (ROOT / path).read_text().replace("/etc/prometheus/rules", str(tmp_path / "rules"))
    (tmp_path / "prometheus.yml").write_text(text)
    done = subprocess.run(
        [program, "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
    assert "rules found" in done.stdout


NATS = {
    "docker/compose/nats.conf": "docker/compose/headrace.toml",
    "docker/compose/nats-mainpc.conf": "docker/compose/mainpc.toml",
    "docker/compose/nats-pc2.conf": "docker/compose/pc2.toml",
    "docker/metal/nats.conf": "docs/examples/ten-nodes/observability.toml",
    "docker/k8s/base/nats.conf": "docker/k8s/base/observe.toml",
    "docker/k8s/leaf/nats.conf": "docker/k8s/leaf/observe.toml",
}


@pytest.mark.parametrize("path", NATS)
def test_a_brokers_file_is_what_observe_would_write(path: str, capsys):
    assert main(["observe", "config", "--config", str(ROOT / NATS[path])]) == 0
    assert (ROOT / path).read_text() == capsys.readouterr().out, (
        f"headrace observe config --config {NATS[path]} > {path}"
    )


@pytest.mark.parametrize("path", NATS)
def test_nats_takes_its_file(path: str, tmp_path: Path):
    text = re.sub(r"store_dir: \S+", f"store_dir: {tmp_path}", (ROOT / path).read_text())
    if named := re.search(r"(/etc/nats.certs)/([a-z0-9]+)\.pem", text):
        subprocess.run([ROOT / "docker/make-certs", tmp_path, named[2]], check=True, timeout=30)
        text = text.replace(named[1], str(tmp_path))
    (tmp_path / "nats.conf").write_text(text)
    program = Path(sys.executable).parent / "nats-server"
    done = subprocess.run([program, "-t", "-c", tmp_path / "nats.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_given_the_pages_and_where_they_ask():
    pages = list((ROOT / "dashboards/generated").glob("*.json"))
    assert pages
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"] if ":/" in volume)
    (provider,) = yaml.safe_load((HERE / "grafana/provisioning/dashboards/headrace.yaml").read_text())["providers"]
    assert mounts["../../dashboards/generated"] == provider["options"]["path"]
    (source,) = yaml.safe_load((HERE / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True


def test_certificates_have_the_names_that_are_asked_for():
    """What docker/README.md has made is what the files name, and what callers call each other."""
    made = re.search(r"make-certs certs ([a-z -]+?) +#", (ROOT / "docker/README.md").read_text())
    assert made
    names = made[1].split()
    text = (HERE / "headrace.toml").read_text()
    assert set(re.findall(r"/etc/headrace/certs/([\w-]+)\.(?:pem|key)", text)) == {"ca", *names}
    edge = config.section(str(HERE / "headrace.toml"), "edge")
    compositor = config.section(str(HERE / "headrace.toml"), "compositor")
    assert edge.avatars.compositor_url == f"grpcs://rtap-pre:{compositor.port}"
    assert {"rtap-pre", compositor.inference.partition(":")[0]} <= set(names)
    assert "mv certs/ca.key" in (ROOT / "docker/README.md").read_text(), "every container would have it"


def test_backends_are_services_at_the_ports_of_the_plan():
    found = config.load(HERE / "headrace.toml")
    published = {name: service.get("ports", []) for name, service in MODES["services"].items()}
    for backend in found.backends:
        host, _, port = backend.url.split("//")[1].partition(":")
        assert host in SERVICES, backend.url
        assert any(each.endswith(f":{port}") for each in published[host]), backend.url


def test_health_checks_ask_the_ports_that_are_configured():
    found = config.load(HERE / "headrace.toml")
    asked = {name: service["build"]["args"]["HEALTH"] for name, service in SERVICES.items() if "build" in service}
    assert asked["edge"] == f"http://127.0.0.1:{found.edge.ops_port}/healthz"
    assert asked["control"] == f"http://127.0.0.1:{found.control.ops_port}/healthz"
    for service, table in (
        ("moc", "arbiter"),
        ("apc", "inference"),
        ("rtap-pre", "compositor"),
        ("uoc-central", "observe"),
    ):
        port = config.section(str(HERE / "headrace.toml"), table).ops_port
        assert asked[service] == f"http://127.0.0.1:{port}/healthz", service


def test_the_blueprints_names_are_all_told():
    page = (ROOT / "docker/README.md").read_text()
    for name in ("moc", "apc", "rtap-pre", "rtap-gpu", "mfh", "mfh-proxy", "uoc-edge", "uoc-central"):
        assert f"`{name}`" in page
