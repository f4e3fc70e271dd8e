"""The services of docker/compose as their file has them, with its certificates, but for names, ports and the GPU."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.exchange import ask
from tests.support.processes import launch, until
from tests.unit.docker.dockerfile import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FILE = ROOT / "docker/compose/headrace.toml"
SECRET = {"HEADRACE_EDGE_SECRET": "a-secret-of-the-test"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hold the certificates that docker/README.md has made, named for this machine."""
    needs.program("openssl")
    names = ["moc=127.0.0.1", "rtap-pre=127.0.0.1", "edge"]
    subprocess.run([ROOT / "docker/make-certs", tmp_path / "certs", *names], check=True, timeout=30)
    # Empty volumes, as they are at the first start.
    for name in ("models", "avatars"):
        (tmp_path / name).mkdir()
    return tmp_path


def placed(text: str, folder: Path) -> str:
    """Return the file with everything on this machine, on free ports."""
    text = text.replace("/etc/headrace/certs", str(folder / "certs")).replace("/var/lib/headrace", str(folder))
    text = re.sub(r"^((?:ops_|broker_)?port) = .*$", r"\1 = 0", text, flags=re.MULTILINE)
    text = re.sub(r'^(host|ops_host) = "0\.0\.0\.0"$', r'\1 = "127.0.0.1"', text, flags=re.MULTILINE)
    text = re.sub(r"^nats_url = .*$\n", "", text, flags=re.MULTILINE)
    text = text.replace('device = "cuda"', 'device = "cpu"')
    # Ports that nothing here says are the defaults of the services.
    for name in ("edge", "control", "inference", "compositor"):
        text = text.replace(
            f"[{name}]\n",
            f"[{name}]\nops_port = 0\n"
            + ("" if re.search(rf"\[{name}\]\n(?:[^\[]*\n)?port = ", text) else "port = 0\n"),
        )
    return text


@pytest.fixture
def edge_url(folder: Path) -> Iterator[str]:
    text = placed(FILE.read_text(), folder)
    with contextlib.ExitStack() as stack:

        def start(name: str, text: str) -> str:
            path = folder / f"{name}.toml"
            path.write_text(text)
            ours = stack.enter_context(launch(name, "--config", str(path), folder=folder, environment=SECRET))
            return str(ours.ready(ms=60_000)["url"])

        control = start("control", text)
        inference = start("inference", text)
        text = text.replace("moc:50052", inference.partition("://")[2])
        compositor = start("compositor", text)
        text = text.replace("rtap-pre:50053", compositor.partition("://")[2]).replace("http://control:7401", control)
        yield start("edge", text)


def test_the_edge_reaches_faces_through_two_links_with_certificates(edge_url: str):
    def ready() -> bool:
        # Refused until control has answered: without its word nobody is let in.
        rows = ask(edge_url, "/v1/avatars").json.get("data")
        return bool(rows) and all(row["ready"] for row in rows)

    until(ready, ms=30_000, what="an avatar is ready, so the compositor reaches inference")
