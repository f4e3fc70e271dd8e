"""The checks of `headrace doctor` that look at this machine, on machines that are made up."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from launch.doctor import disk, machine, software
from launch.doctor.finding import bad, good, status_of, warning
from launch.doctor.machine import Kernel

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
filer:/home /srv/keys nfs4 rw 0 0
/dev/sdb1 /srv/my\\040disk xfs rw 0 0
"""


def kernel(root: Path, **values: str) -> Kernel:
    for name, value in values.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    return Kernel(root)


@pytest.mark.parametrize(
    ("limit", "verdict"), [(256, "fail"), (1_024, "warn"), (65_536, "ok"), (resource.RLIM_INFINITY, "ok")]
)
def test_open_files_bound_the_streams(limit, verdict):
    found = machine.files(limit)
    assert found.verdict == verdict
    assert bool(found.do) == (verdict != "ok")
    if limit == 65_536:
        assert "32,608 streams" in found.seen


@pytest.mark.parametrize(("value", "verdict"), [("128", "warn"), ("4096", "ok")])
def test_the_backlog_is_what_the_kernel_allows(tmp_path, value, verdict):
    found = machine.backlog(kernel(tmp_path, net__core__somaxconn=value))
    assert found.verdict == verdict
    assert ("sysctl -w net.core.somaxconn=2048" in found.do) == (verdict == "warn")


def test_what_cannot_be_read_is_not_judged(tmp_path):
    assert machine.backlog(Kernel(tmp_path)).verdict == "skip"
    assert machine.buffers(Kernel(tmp_path)).verdict == "skip"
    assert list(machine.local_ports(Kernel(tmp_path), [("arbiter.port", 50_051)])) == []


def test_a_small_socket_buffer_is_named(tmp_path):
    here = kernel(tmp_path, net__core__rmem_default="212992", net__core__wmem_default="65536")
    found = machine.buffers(here)
    assert (found.verdict, found.do) == ("warn", "sysctl -w net.core.wmem_default=212992")


def test_a_fixed_port_among_the_kernels_own_is_named_once_it_is_not_reserved(tmp_path):
    given = {"net__ipv4__ip_local_port_range": "32768\t60999"}
    wanted = [("edge.port", 7_400), ("arbiter.port", 50_051), ("inference.port", 50_052)]
    (found,) = machine.local_ports(kernel(tmp_path, **given, net__ipv4__ip_local_reserved_ports=""), wanted)
    assert found.verdict == "warn"
    assert found.do == "sysctl -w net.ipv4.ip_local_reserved_ports=50051,50052"
    kept = kernel(tmp_path, net__ipv4__ip_local_reserved_ports="40000,50051-50052")
    assert list(machine.local_ports(kept, wanted)) == []


def test_the_clock_is_asked_of_the_real_kernel():
    found = machine.clock()
    assert found.check == "clock"
    assert found.verdict in ("ok", "warn", "skip")


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/etc", "ext4"), ("/run/headrace", "tmpfs"), ("/srv/keys/control.db", "nfs4"), ("/srv/my disk", "xfs")],
)
def test_the_file_system_of_a_path(path, kind):
    assert disk.kind_of(Path(path), MOUNTS) == kind


def test_a_folder_on_the_network_is_refused_and_one_that_forgets_is_told(tmp_path):
    def judged(kind: str, **more: object) -> str:
        mounts = f"x {tmp_path.resolve()} {kind} rw 0 0\n"
        return disk.folder("disk.keys", tmp_path / "new" / "control.db", mounts=mounts, **more).verdict

    assert judged("nfs4", needs_bytes=1, lasting=True) == "fail"
    assert judged("tmpfs", needs_bytes=1, lasting=True) == "warn"
    assert judged("tmpfs", needs_bytes=1, lasting=False) == "ok"
    assert judged("ext4", needs_bytes=1, lasting=True) == "ok"
    assert judged("ext4", needs_bytes=1 << 60, lasting=True) == "fail"


REQUIRES = [
    "uvicorn==0.54.0",
    "httpx>=0.28",
    'uvloop>=0.22; sys_platform != "win32"',
    'grpcio>=1.85; extra == "arbiter"',
    'onnxruntime>=1.31; extra == "cpu"',
    'onnxruntime-gpu>=1.31; extra == "gpu"',
    'headrace[arbiter]; extra == "up"',
]


def test_requirements_are_read_from_metadata():
    assert software.requirements(REQUIRES)[:4] == [
        ("uvicorn", "==0.54.0", ""),
        ("httpx", ">=0.28", ""),
        ("uvloop", ">=0.22", ""),
        ("grpcio", ">=1.85", "arbiter"),
    ]
    assert ("uvicorn", "==0.54.0", "") in software.requirements()


def test_a_pin_that_is_not_kept_is_a_failure():
    asked = software.requirements(REQUIRES)
    there = {"uvicorn": "0.54.0", "httpx": "0.28.1", "uvloop": "0.22"}
    assert software.pins(asked, there.get).verdict == "ok"
    found = software.pins(asked, {**there, "uvicorn": "0.55.0"}.get)
    assert (found.verdict, found.seen) == ("fail", "uvicorn is 0.55.0, ==0.54.0 is needed exactly")
    assert "httpx is missing" in software.pins(asked, {"uvicorn": "0.54.0", "uvloop": "1"}.get).seen


def test_only_what_is_to_run_needs_its_extra():
    asked = software.requirements(REQUIRES)
    missing, summary = software.extras(asked, ["arbiter"], lambda _: None)
    assert (missing.check, missing.verdict, missing.do) == (
        "extra.arbiter",
        "fail",
        "pip install 'headrace[arbiter]'",
    )
    assert summary.verdict == "ok"
    (summary,) = software.extras(asked, [], lambda _: None)
    assert "not installed: arbiter, cpu, gpu" in summary.seen
    (summary,) = software.extras(asked, [], lambda _: "1.0")
    assert summary.verdict == "warn"
    assert "share one module" in summary.seen


def test_warnings_do_not_fail():
    assert status_of([good("a", ""), warning("b", "", "do")]) == 0
    assert status_of([good("a", ""), bad("b", "", "do")]) == 1
