"""systemd units and the playbook: verified by systemd and Ansible where they are, and held against the code."""

from __future__ import annotations

import configparser
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import config
from launch.cli import main
from tests.support import needs
from tests.unit.docker.dockerfile import ROOT

HERE = ROOT / "docker/metal"
UNITS = sorted((HERE / "units").iterdir())
BACKUP = HERE / "units/headrace-backup.service"
SERVICES = [path for path in UNITS if path.suffix == ".service" and path != BACKUP]


def unit(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    found.optionxform = str  # type: ignore[method-assign, assignment]
    found.read_string(path.read_text())
    return found


def test_systemd_takes_the_units(tmp_path: Path):
    """What they start is not on this machine, so `true` stands in its place; everything else is as it is."""
    program = needs.program("systemd-analyze")
    for path in UNITS:
        text = (
            path.read_text()
            .replace("/opt/headrace/venv/bin/headrace", "/bin/true")
            .replace("/opt/headrace/venv/bin/nats-server", "/bin/true")
        )
        text = re.sub(r"^(User|Group)=headrace$", r"\1=root", text, flags=re.MULTILINE)
        name = path.name.replace("@.", "@chat.")
        (tmp_path / name).write_text(text)
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(
        [program, "verify", "--man=no", *names], capture_output=True, text=True, check=False, env=environment
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "headrace" in line]
    assert not ours, "\n".join(ours)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_there_is_and_has_few_rights(path: Path, capsys):
    found = unit(path)["Service"]
    words = found["ExecStart"].split()
    if words[0].endswith("/headrace"):
        options = words[1:]
        assert main([*options[: 2 if options[1] == "run" else 1], "--help"]) == 0, options
        said = capsys.readouterr().out
        assert all(word in said for word in options if word.startswith("--"))
    assert found["User"] == "headrace"
    assert found["NoNewPrivileges"] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found["LimitNOFILE"] == "65536"
    assert found["Restart"] == "on-failure"
    # The machine's own is read-only under ProtectSystem=strict.
    assert found["PrivateTmp"] == "yes"
    # Five failures within ten seconds would otherwise be its end.
    assert unit(path)["Unit"]["StartLimitIntervalSec"] == "0"


def test_units_that_share_a_folder_keep_others_out_of_it():
    """systemd sets the mode of a StateDirectory at every start, to 0755 where a unit does not say."""
    for path in (*SERVICES, BACKUP):
        found = unit(path)["Service"]
        assert found["StateDirectoryMode"] == "0700", path.name


def test_a_restart_of_the_arbiter_leaves_its_engines_alone():
    found = unit(HERE / "units/headrace-engine@.service")["Unit"]
    assert "headrace-arbiter.service" in found["After"]
    assert "headrace-arbiter.service" in found["Wants"]
    assert not {"Requires", "BindsTo"} & set(found), "systemd restarts with it whatever requires it"
    assert found["PartOf"] == "headrace.target"


def test_the_nightly_backup_is_one(tmp_path: Path, capsys):
    """Its line is run, but for where things are."""
    found = unit(BACKUP)["Service"]
    store, file = tmp_path / "control.db", tmp_path / "headrace.toml"
    assert main(["keys", "create", "--tenant", "me", "--store", str(store), "--new"]) == 0
    file.write_text(f'[control]\nstore_path = "{store}"\n')
    line = found["ExecStart"].replace("%%", "%")
    for there, here in (
        ("/opt/headrace/venv/bin/headrace", f"{sys.executable} -m launch"),
        ("/var/lib/headrace-backup", str(tmp_path / "copies")),
        ("/etc/headrace/headrace.toml", str(file)),
    ):
        line = line.replace(there, here)
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (copy,) = (tmp_path / "copies").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", copy.name)
    assert (copy / "control.db").exists()
    assert "headrace-backup" in found["StateDirectory"].split()
    assert unit(BACKUP.with_suffix(".timer"))["Timer"]["Persistent"] == "true"


def test_a_unit_has_the_time_that_its_drain_takes():
    """By the longest drain of the examples."""
    longest = max(
        found.settle_ms + found.drain_ms
        for path in (ROOT / "docs/examples").rglob("*.toml")
        if "[edge]" in path.read_text()
        for found in [config.section(str(path), "edge")]
    )
    stop_s = int(unit(HERE / "units/headrace-edge.service")["Service"]["TimeoutStopSec"].removesuffix("s"))
    assert stop_s * 1000 > longest


def inventory() -> dict[str, Any]:
    return yaml.safe_load((HERE / "ansible/inventory.example.yml").read_text())["all"]


def hosts(group: dict[str, Any], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every host below a group with its variables."""
    known = {**given, **group.get("vars", {})}
    found = {name: {**known, **(own or {})} for name, own in (group.get("hosts") or {}).items()}
    for child in (group.get("children") or {}).values():
        for name, own in hosts(child or {}, known).items():
            found[name] = {**own, **found.get(name, {})}
    return found


@pytest.mark.slow
def test_the_playbook_is_one(tmp_path: Path):
    program = needs.program("ansible-playbook")
    done = subprocess.run(
        [program, "-i", "inventory.example.yml", "--syntax-check", "site.yml"],
        cwd=HERE / "ansible", capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "HOME": str(tmp_path), "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_host_has_units_and_a_file_that_is_valid_for_them(capsys):
    units = {path.name for path in UNITS}
    found = hosts(inventory(), {})
    assert len(found) == 12, "ten nodes, control and the core host"
    assert len({own["ansible_host"] for own in found.values()}) == 12
    for name, own in found.items():
        services = own.get("headrace_services", [])
        assert all(f"headrace-{service}.service" in units for service in services), name
        if "headrace_file" not in own:
            assert services == [], f"{name} has no file, and its services need one"
            continue
        path = str(ROOT / "docs/examples/ten-nodes" / own["headrace_file"])
        ours = [service for service in services if service != "nats"]
        assert main(["check", path, *(word for service in ours for word in ("--service", service))]) == 0, (
            f"{name}: {capsys.readouterr().err}"
        )
        budgets = {budget.name for budget in config.budgets(path)}
        assert set(own.get("headrace_engines", [])) <= budgets, name
        assert (ROOT / own.get("headrace_lock", "requirements.lock")).exists(), name


def test_stream_nodes_are_changed_one_after_the_other_and_only_while_all_is_well():
    plays = yaml.safe_load((HERE / "ansible/site.yml").read_text())
    order = [play["hosts"] for play in plays]
    assert order == ["control_nodes", "observability_nodes", "core_nodes", "stream_nodes", "ingress_nodes"]
    groups = set(inventory()["children"])
    assert set(order) <= groups
    edges = plays[order.index("stream_nodes")]
    assert (edges["serial"], edges["max_fail_percentage"]) == (1, 0)
    waits = edges["post_tasks"][-1]
    assert waits["ansible.builtin.uri"]["url"].endswith(":7410/readyz")
    assert waits["until"] == "headrace_ready.status == 200"


def test_every_variable_that_a_file_names_is_among_the_secrets():
    tasks = yaml.safe_load((HERE / "ansible/roles/headrace/tasks/main.yml").read_text())
    (secrets,) = [task["ansible.builtin.copy"]["content"] for task in tasks if task["name"] == "Secrets"]
    for path in (ROOT / "docs/examples/ten-nodes").glob("*.toml"):
        for name in re.findall(r'^\w+_env = "(\w+)"', path.read_text(), re.MULTILINE):
            assert f"{name}=" in secrets, f"{path.name}: {name}"


def test_the_maps_prometheus_asks_every_process_where_it_answers():
    """Targets by the files of the machines."""
    jobs = {
        job["job_name"]: {target for some in job["static_configs"] for target in some["targets"]}
        for job in yaml.safe_load((ROOT / "docs/examples/ten-nodes/prometheus.yml").read_text())["scrape_configs"]
    }
    wanted: dict[str, set[str]] = {"vllm": set()}
    for own in hosts(inventory(), {}).values():
        if "headrace_file" not in own:
            continue
        path = str(ROOT / "docs/examples/ten-nodes" / own["headrace_file"])
        for service in own["headrace_services"]:
            if service == "nats":
                continue
            found = config.section(path, service)
            assert found.ops_host == own["ansible_host"], f"{path}: Prometheus is elsewhere"
            ports = range(found.ops_port, found.ops_port + max(1, getattr(found, "workers", 0)))
            wanted.setdefault(service, set()).update(f"{found.ops_host}:{port}" for port in ports)
        for budget in config.budgets(path):
            if budget.engine == "vllm":
                wanted["vllm"].add(f"{budget.host}:{budget.port or 8_000}")
    assert jobs == wanted


def test_tasks_copy_files_that_are_there():
    for path in (HERE / "ansible").rglob("*.yml"):
        for source in re.findall(r"\{\{ headrace_repository \}\}/([\w./-]+)", path.read_text()):
            assert (ROOT / source).exists(), f"{path.name}: {source}"


def test_debians_units_can_run_and_reload_the_proxies():
    """nginx.service waits for the pid file of Debian's own build; caddy.service reloads by the admin API."""
    directives = (ROOT / "docker/ingress/nginx.conf").read_text().splitlines()
    assert not [line for line in directives if line.startswith("pid ")]
    assert re.search(r"^\tadmin localhost:\d+$", (ROOT / "docker/ingress/Caddyfile").read_text(), re.MULTILINE)


def test_secrets_are_not_shown():
    tasks = yaml.safe_load((HERE / "ansible/roles/headrace/tasks/main.yml").read_text())
    (secret,) = [task for task in tasks if task["name"] == "Secrets"]
    assert secret["no_log"] is True
    assert secret["ansible.builtin.copy"]["mode"] == "0600"


def test_certificates_between_nodes_are_what_they_should_be(tmp_path: Path):
    needs.program("openssl")
    script = ROOT / "docker/make-certs"
    subprocess.run([script, str(tmp_path), "node-03=10.0.0.43", "node-04"], check=True, timeout=30)
    before = (tmp_path / "node-03.pem").read_bytes()
    subprocess.run([script, str(tmp_path), "node-03=10.0.0.43", "node-05"], check=True, timeout=30)
    assert (tmp_path / "node-03.pem").read_bytes() == before, "what is there is kept"
    assert oct((tmp_path / "ca.key").stat().st_mode & 0o777) == "0o600"
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    server.load_cert_chain(tmp_path / "node-03.pem", tmp_path / "node-03.key")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.load_cert_chain(tmp_path / "node-05.pem", tmp_path / "node-05.key")
    for name in ("node-03", "10.0.0.43"):
        assert shaken(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(client, server, "node-04")
    assert subprocess.run([script], check=False, capture_output=True).returncode == 2


def test_an_authority_whose_key_is_elsewhere_is_not_replaced(tmp_path: Path):
    needs.program("openssl")
    line = [ROOT / "docker/make-certs", str(tmp_path), "node-03"]
    subprocess.run(line, check=True, timeout=30)
    (tmp_path / "ca.key").rename(tmp_path / "elsewhere")
    before = (tmp_path / "ca.pem").read_bytes()
    done = subprocess.run([*line, "node-04"], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "put it back" in done.stderr
    assert (tmp_path / "ca.pem").read_bytes() == before
    (tmp_path / "elsewhere").rename(tmp_path / "ca.key")
    (tmp_path / "node-03.pem").unlink()
    subprocess.run([*line, "node-04"], check=True, timeout=30)
    assert (tmp_path / "node-03.pem").exists(), "without its certificate a name gets a new one"
    (tmp_path / "ca.key").write_text("no key")
    done = subprocess.run([*line, "node-05"], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert done.stderr.strip(), "what openssl says is seen"
    assert not (tmp_path / "node-05.pem").exists()


def shaken(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """Return whether a handshake succeeds, in memory."""
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    ends = [
        client.wrap_bio(pipes[0], pipes[1], server_hostname=name),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    done = [False, False]
    for _ in range(10):
        for index, end in enumerate(ends):
            try:
                end.do_handshake()
                done[index] = True
            except ssl.SSLWantReadError:
                continue
        if all(done):
            return True
    return False
