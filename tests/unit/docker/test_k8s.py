"""Kubernetes manifests, checked against the published schemas and against the configuration that they mount."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from core_gpu.modes.plan import plan_modes
from launch import config
from launch.cli import main
from tests.unit.docker import schemas
from tests.unit.docker.dockerfile import ROOT

HERE = ROOT / "docker/k8s/base"
FILE = str(HERE / "headrace.toml")


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((HERE / "kustomization.yaml").read_text())["resources"]
    return [found for name in listed for found in yaml.safe_load_all((HERE / name).read_text()) if found]


ALL = documents()


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in ALL if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods() -> dict[str, dict[str, Any]]:
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in ALL
        if "template" in each.get("spec", {})
    }


def containers() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}.{container['name']}", container)
        for name, spec in pods().items()
        for container in (*spec.get("initContainers", ()), *spec["containers"])
    ]


def container(pod: str, name: str) -> dict[str, Any]:
    return dict(containers())[f"{pod}.{name}"]


@pytest.mark.parametrize("document", ALL, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_it_is_kubernetes_as_the_api_has_it(document):
    schemas.kubernetes(document)


@pytest.mark.parametrize("folder", ["base", "leaf"])
def test_kustomize_puts_it_together(folder: str):
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("needs kubectl, which Debian has not got")
    done = subprocess.run(
        [program, "kustomize", str(HERE.parent / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert len(made) == len(ALL) + 2
    assert {each["metadata"].get("namespace") for each in made if each["kind"] != "Namespace"} == {"headrace"}
    maps = [each["metadata"]["name"] for each in made if each["kind"] == "ConfigMap"]
    assert all("-" in name for name in maps), "a changed file makes another name, so pods are replaced"
    assert "headrace/edge:0.1.0" in done.stdout
    assert "image: headrace/observe\n" not in done.stdout, "every image has its tag"
    for document in made:
        schemas.kubernetes(document)
    files = {name: text for each in made if each["kind"] == "ConfigMap" for name, text in each["data"].items()}
    assert files["observe.toml"] == OBSERVED["leaf" if folder == "leaf" else "observe"].read_text()
    assert {"headrace.toml", "events.toml", "nats.conf"} < set(files)


AVATARS = ROOT / "docker/k8s/avatars"


@pytest.fixture(scope="module")
def faces() -> list[dict[str, Any]]:
    """Return what the overlay with avatars comes to."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("needs kubectl, which Debian has not got")
    done = subprocess.run([program, "kustomize", str(AVATARS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def test_the_base_with_faces_is_kubernetes_and_keeps_what_the_base_has(faces):
    for document in faces:
        schemas.kubernetes(document)
    assert {(each["kind"], each["metadata"]["name"]) for each in ALL} <= {
        (each["kind"], each["metadata"]["name"]) for each in faces
    }
    pods = {
        name: of(faces, kind, name)["spec"]["template"]["spec"]
        for kind, name in (("Deployment", "edge"), ("Deployment", "compositor"), ("StatefulSet", "core"))
    }
    for name, spec in pods.items():
        assert [each for each in spec["volumes"] if each.get("secret", {}).get("secretName") == "headrace-certs"], (
            name
        )
    (edge,) = pods["edge"]["containers"]
    assert {"config", "state", "tmp", "certs"} == {mount["name"] for mount in edge["volumeMounts"]}
    inference = next(each for each in pods["core"]["containers"] if each["name"] == "inference")
    assert {"inference", "inference-ops"} == {port["name"] for port in inference["ports"]}
    ports = {port["name"] for port in of(faces, "Service", "core")["spec"]["ports"]}
    assert ports == {"vllm", "arbiter-ops", "inference"}


def test_faces_are_reached_by_their_services_and_certificates(capsys):
    file = str(AVATARS / "headrace.toml")
    services = ("edge", "control", "arbiter", "inference", "compositor")
    assert main(["check", file, *(word for name in services for word in ("--service", name))]) == 0, (
        capsys.readouterr()
    )
    edge, compositor = config.section(file, "edge"), config.section(file, "compositor")
    assert edge.avatars.compositor_url == f"grpcs://compositor:{compositor.port}"
    assert compositor.inference == f"core:{config.section(file, 'inference').port}"
    made = re.search(r"make-certs certs ([\w -]+)\n", (ROOT / "docs/operations/deploy.md").read_text())
    assert made
    named = set(re.findall(r"/etc/headrace-certs/([\w-]+)\.(?:pem|key)", (AVATARS / "headrace.toml").read_text()))
    assert named == {"ca", *made[1].split()}


def test_the_overlays_file_is_the_bases_and_the_faces():
    """What they share is the same in both, so that a change of one is a change of the other."""
    base, more = (tomllib.loads((folder / "headrace.toml").read_text()) for folder in (HERE, AVATARS))
    for table, found in base.items():
        if isinstance(found, dict):
            shared = {key: more[table].get(key) for key in found}
            assert shared == found, table
        else:
            assert more[table] == found, table


def test_the_file_is_valid_for_the_services_that_mount_it(capsys):
    assert main(["check", FILE]) == 0, capsys.readouterr().err


LEAF = ROOT / "docker/k8s/leaf"
#: Files of `headrace observe`: the centre's, the one beside each edge, the centre's of a site with a hub.
OBSERVED = {"observe": HERE / "observe.toml", "events": HERE / "events.toml", "leaf": LEAF / "observe.toml"}


@pytest.mark.parametrize("path", OBSERVED.values(), ids=OBSERVED)
def test_a_file_of_observe_is_valid(path: Path, capsys):
    assert main(["check", str(path), "--service", "observe"]) == 0, capsys.readouterr().err


def test_events_are_counted_once_and_of_one_site():
    centre, beside = (config.section(str(OBSERVED[name]), "observe") for name in ("observe", "events"))
    assert (centre.tallies, beside.tallies) == (True, False)
    assert centre.site == beside.site, "their broker has one domain"
    assert one("Deployment", "observe")["spec"]["replicas"] == 1
    assert not config.section(str(OBSERVED["leaf"]), "observe").tallies, "the hub does"
    assert beside.feeds == (f"edge=http://127.0.0.1:{config.section(FILE, 'edge').ops_port}",)
    store = one("PersistentVolumeClaim", "events")["spec"]["resources"]["requests"]["storage"]
    assert centre.stream_bytes < int(store.removesuffix("Gi")) * 2**30


def test_what_observe_asks_is_a_service_and_the_way_is_open():
    observe = tomllib.loads(OBSERVED["observe"].read_text())
    asked = [feed.split("=", 1)[1] for feed in observe["observe"]["feeds"]]
    asked += [observe["observe"]["nats_url"], observe["prober"]["control_url"], *observe["prober"]["edges"]]
    assert len(asked) == 5
    for url in asked:
        parts = urlsplit(url)
        service = one("Service", str(parts.hostname))
        (port,) = [each for each in service["spec"]["ports"] if each["port"] == (parts.port or 80)]
        way = one("NetworkPolicy", str(parts.hostname))["spec"]["ingress"]
        open_to = [
            each["port"]
            for rule in way
            if {"podSelector": {"matchLabels": {"app": "observe"}}} in rule["from"]
            for each in rule["ports"]
        ]
        assert port["targetPort"] in open_to, url
    # The one beside an edge reaches the broker as well.
    assert {"podSelector": {"matchLabels": {"app": "edge"}}} in one("NetworkPolicy", "nats")["spec"]["ingress"][0][
        "from"
    ]


def test_observe_has_the_secrets_that_its_file_names():
    names = set(re.findall(r'^\w+_env = "(\w+)"', OBSERVED["observe"].read_text(), re.MULTILINE))
    assert names == {"HEADRACE_EDGE_SECRET", "HEADRACE_PROBER_KEY"}
    given = [each["secretRef"]["name"] for each in container("observe", "observe")["envFrom"]]
    page = (ROOT / "docs/operations/deploy.md").read_text()
    assert given == ["headrace", "headrace-prober"]
    for secret, name in zip(given, ("HEADRACE_EDGE_SECRET", "HEADRACE_PROBER_KEY"), strict=True):
        assert f"create secret generic {secret} --from-literal={name}=" in page


def test_a_site_with_a_hub_is_the_base_with_its_certificates():
    base, leaf = (tomllib.loads(OBSERVED[name].read_text()) for name in ("observe", "leaf"))
    more = {key: leaf["observe"].pop(key) for key in set(leaf["observe"]) - set(base["observe"])}
    assert leaf == base
    assert set(more) == {"hub_url", "leaf_cert_file", "leaf_key_file", "leaf_ca_file"}
    (patch,) = yaml.safe_load_all((LEAF / "nats.yaml").read_text())
    (mount,) = patch["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert all(path.startswith(f"{mount['mountPath']}/") for key, path in more.items() if key != "hub_url")


def test_an_edge_waits_for_nothing_that_keeps_its_events():
    """A sidecar that is asked whether it is ready, or has started, would hold the edge back."""
    found = container("edge", "events")
    assert found["restartPolicy"] == "Always", "it ends behind the edge"
    assert not {"readinessProbe", "startupProbe"} & set(found)


def test_a_pod_has_the_time_that_its_drain_takes():
    edge = config.section(FILE, "edge")
    spec = pods()["edge"]
    (found,) = spec["containers"]
    command = found["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    events = config.section(str(HERE / "events.toml"), "observe")
    needed_s = int(command[1]) + (edge.settle_ms + edge.drain_ms + events.settle_ms + events.drain_ms) / 1000
    assert spec["terminationGracePeriodSeconds"] > needed_s


def test_probes_ask_the_ops_port():
    ports = {
        "edge.edge": config.section(FILE, "edge").ops_port,
        "control.control": config.section(FILE, "control").ops_port,
        "core.arbiter": config.section(FILE, "arbiter").ops_port,
        "core.inference": config.section(FILE, "inference").ops_port,
        "observe.observe": config.section(str(HERE / "observe.toml"), "observe").ops_port,
        "edge.events": config.section(str(HERE / "events.toml"), "observe").ops_port,
    }
    found = dict(containers())
    for name, port in ports.items():
        named = {each["name"]: each["containerPort"] for each in found[name]["ports"]}
        probes = {
            key: found[name][key] for key in ("readinessProbe", "livenessProbe", "startupProbe") if key in found[name]
        }
        assert "livenessProbe" in probes
        for probe in probes.values():
            assert named[probe["httpGet"]["port"]] == port, name
        live = probes["livenessProbe"]["httpGet"]["path"]
        assert live == "/healthz", "a service that only is not ready must not be killed"


def test_containers_of_ours_have_few_rights_and_a_bound():
    for name, found in containers():
        assert found["resources"]["limits"]["memory"], name
        assert ":" in found["image"] or found["image"].startswith("headrace/"), name
        assert not found["image"].endswith(":latest"), name
        if found["image"].startswith("headrace/"):
            context = found["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
    for name, spec in pods().items():
        assert spec["automountServiceAccountToken"] is False, name


def test_the_arbiter_is_a_sidecar_that_outlives_the_engines():
    (found,) = pods()["core"]["initContainers"]
    assert found["name"] == "arbiter"
    assert found["restartPolicy"] == "Always"
    assert pods()["core"]["hostPID"] is True


def test_the_engines_flags_are_the_planners():
    plan = plan_modes(config.section(FILE, "gpu"), config.budgets(FILE))
    (chat,) = [engine for engine in plan.engines if engine.name == "chat"]
    wanted = ["0.0.0.0" if part == chat.host else part for part in chat.command[2:]]
    assert container("core", "chat")["args"] == wanted


def test_the_autoscaler_counts_streams_and_the_metric_exists():
    from streamkit.ops.catalog import CATALOG

    (metric,) = one("HorizontalPodAutoscaler", "edge")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in {each.name for each in CATALOG}
    assert "replicas" not in one("Deployment", "edge")["spec"], "an apply would set the autoscaler's number back"
    assert one("PodDisruptionBudget", "edge")["spec"]["maxUnavailable"] == 1


def test_nobody_reaches_anybody_but_by_a_named_way():
    (closed,) = [each for each in ALL if each["kind"] == "NetworkPolicy" and "ingress" not in each["spec"]]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    ways = {
        each["metadata"]["name"]: {str(port["port"]) for rule in each["spec"]["ingress"] for port in rule["ports"]}
        for each in ALL
        if each["kind"] == "NetworkPolicy" and "ingress" in each["spec"]
    }
    assert ways["edge"] == {"http"}
    assert ways["core"] == {"vllm", "7428"}, "leases and inference are reached on loopback alone"
    assert ways["metrics"] == {"7410", "7425", "7427", "7428", "7429", "8000"}


def test_services_choose_pods_that_are_there():
    labels = {
        name: each["spec"]["template"]["metadata"]["labels"]
        for each in ALL
        if "template" in each.get("spec", {})
        for name in [each["metadata"]["name"]]
    }
    for each in ALL:
        if each["kind"] == "Service":
            chosen = [name for name, given in labels.items() if each["spec"]["selector"].items() <= given.items()]
            assert len(chosen) == 1, each["metadata"]["name"]
            named = {
                target
                for key, found in containers()
                if key.startswith(f"{chosen[0]}.")
                for port in found.get("ports", ())
                for target in (port["name"], port["containerPort"])
            }
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= named
