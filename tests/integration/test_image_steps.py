"""The image's own steps, run where there is no container engine: in a folder that stands for the image's root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.images import STARTS
from tests.support.processes import running
from tests.unit.docker.dockerfile import ROOT, exec_form, parsed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: By default the smallest: what differs is the list of packages, with which test_image_packages starts every service.
#: HEADRACE_IMAGES=edge,observe,… takes others, a minute each.
IMAGES = os.environ.get("HEADRACE_IMAGES", "control").split(",")


@pytest.fixture(scope="module", params=IMAGES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(service: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the build stage and return the root of what it made."""
    root = tmp_path_factory.mktemp(service)
    source = root / "src"
    source.mkdir()
    kept = [
        line[1:]
        for line in (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    build, _ = parsed((ROOT / "docker/Dockerfile").read_text())[1]
    environment = {**os.environ, **dict(word.split("=") for word in build.last("ENV").split())}
    environment.pop("PYTHONPATH", None)
    # The base image calls it `python`.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for word, rest in build.instructions:
        if word == "COPY" and rest.split()[0] == ".":
            for name in kept:
                if (path := ROOT / name).is_dir():
                    shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
                elif path.exists():
                    shutil.copy(path, source / name)
        elif word == "COPY":
            given, target = rest.replace("${SERVICE}", service).split()
            shutil.copy(ROOT / given, source / target)
        elif word == "RUN":
            line = rest.replace("/opt/headrace", str(root / "opt/headrace"))
            done = subprocess.run(
                ["/bin/sh", "-ec", line], cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
    shutil.rmtree(source)
    return root


def test_what_is_built_runs_without_its_source_and_is_healthy(service: str, image: Path, tmp_path: Path):
    binaries = image / "opt/headrace/bin"
    _, run = parsed((ROOT / "docker/Dockerfile").read_text())[1]
    start = STARTS[service]
    (tmp_path / "headrace.toml").write_text(start.text)
    ready = tmp_path / "ready.json"
    entry = exec_form(run.last("ENTRYPOINT"))
    environment = {
        "PATH": f"{binaries}:/usr/bin:/bin", "PYTHONPATH": "", "PYTHONUNBUFFERED": "1",
        "HEADRACE_COMMAND": start.command, "HOME": str(tmp_path),
    }  # fmt: skip
    line = [*entry, "--config", str(tmp_path / "headrace.toml"), "--ready-file", str(ready)]
    with running(line, tmp_path, environment=environment, ready_file=ready) as ours:
        ops_url = ours.ready()["ops_url"]
        check = exec_form(run.last("HEALTHCHECK").partition("CMD ")[2])
        asked = {**os.environ, **environment, "HEADRACE_HEALTH": f"{ops_url}{start.page}"}
        assert subprocess.run(check, env=asked, check=False).returncode == 0
        assert ours.stop() == 0, "SIGTERM reaches the service, because the shell is gone"
        gone = subprocess.run(check, env=asked, check=False, capture_output=True)
        assert gone.returncode != 0
    found = subprocess.run(
        [binaries / "python", "-c", "import control; print(control.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, **environment},
    )  # fmt: skip
    assert found.stdout.startswith(str(image))


def test_it_holds_neither_tests_nor_what_built_it(service: str, image: Path):
    names = {
        path.name for path in next((image / "opt/headrace/lib").glob("python*")).joinpath("site-packages").iterdir()
    }
    assert not {"tests", "hatchling", "pip"} & names
    assert {"control", "streamkit", "launch", "uvicorn"} <= names
    if service == "control":
        assert not {"grpc", "onnxruntime", "av"} & names
