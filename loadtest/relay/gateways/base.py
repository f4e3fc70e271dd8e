"""What every gateway under test has in common."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from loadtest.launched import SiteError, served
from loadtest.relay.children import Child

#: Names the folder of a virtual environment with peers that are Python programs.
PEERS_VENV: Final = "HEADRACE_PEERS_VENV"
#: Bounds the connections that configured gateways accept; well above the largest scenario.
CONNECTIONS: Final = 8192


class GatewayError(Exception):
    """A gateway did not start, or did not answer."""


class Gateway(Protocol):
    """One gateway under test. `start` and `stop` may be called many times in turn."""

    @property
    def name(self) -> str:
        """What people call it, in lower case."""

    @property
    def interpreted(self) -> bool:
        """It is a Python or node program: a budget compares us with those."""

    @property
    def websocket(self) -> bool:
        """It is asked over WebSocket, for long streams only."""

    def available(self) -> str | None:
        """Return why it cannot run here, or None."""

    def version(self) -> str:
        """Return its version in a few words."""

    def start(self, backend_url: str, cpus: set[int], scratch: Path) -> str:
        """Start it in front of `backend_url`, on `cpus` only; return its own base URL (without `/v1`).

        Raises:
            GatewayError: it does not run.
        """

    def pids(self) -> tuple[int, ...]:
        """Return the processes whose trees are its whole cost."""

    def path_pids(self) -> tuple[int, ...]:
        """Return the processes whose trees are on the token path."""

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""


def find_program(name: str) -> str | None:
    """Return the path of a program on PATH, in the system's folders, or in the peers' environment."""
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    if venv := os.environ.get(PEERS_VENV):
        folders.insert(0, str(Path(venv) / "bin"))
    return shutil.which(name, path=os.pathsep.join(folders))


def first_line(command: Sequence[str], timeout_s: float = 60.0) -> str:
    """Return the first line that a command prints, on either output; empty if it does not run."""
    try:
        done = subprocess.run(  # noqa: S603  # Programs of the benchmark's own choice.
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def free_port() -> int:
    """Return a port of the loopback that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def answers(url: str, path: str, timeout_s: float) -> bool:
    """Whether a GET of `path` is answered with 200."""
    parts = urlsplit(url)
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout_s) as sock:
            sock.sendall(request.encode())
            return sock.recv(64).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
    except OSError:
        return False


class ProcessGateway:
    """A gateway that is one program: subclasses say which (`command`), the rest is here.

    Args:
        name: what people call it.
        interpreted: it is a Python or node program.
    """

    websocket: bool = False
    #: It must answer by then.
    start_s: float = 20.0
    #: Answered with 200 once it serves; passed on to the backend by plain proxies.
    ready_path: str = "/v1/models"

    def __init__(self, name: str, *, interpreted: bool) -> None:
        self.name = name
        self.interpreted = interpreted
        self._child: Child | None = None

    def command(self, backend_url: str, port: int, scratch: Path) -> Sequence[str]:
        """Return the command line; configuration files go into `scratch`."""
        raise NotImplementedError

    def environment(self, backend_url: str) -> Mapping[str, str]:
        """Return what is added to the environment."""
        return {}

    def start(self, backend_url: str, cpus: set[int], scratch: Path) -> str:
        """Start it and wait until it serves."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = scratch / f"{self.name}.log"
        log.unlink(missing_ok=True)
        self._child = child = Child(
            self.name,
            self.command(backend_url, port, scratch),
            cpus=cpus,
            log=log,
            environment=self.environment(backend_url),
        )
        try:
            served(child, lambda: answers(url, self.ready_path, 1.0), self.start_s)
        except SiteError as error:
            self.stop()
            raise GatewayError(str(error)) from error
        return url

    def pids(self) -> tuple[int, ...]:
        """Return its main process."""
        return (self._child.pid,) if self._child else ()

    def path_pids(self) -> tuple[int, ...]:
        """All of it is on the token path."""
        return self.pids()

    def stop(self) -> None:
        """End it."""
        if child := self._child:
            self._child = None
            child.stop()
