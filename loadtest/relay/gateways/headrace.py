"""Headrace itself: control and one edge, started by `launch` as a user starts them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import time
from pathlib import Path
from string import Template
from typing import Final

import msgspec

from loadtest.relay.children import Child
from loadtest.relay.gateways.base import CONNECTIONS, GatewayError, answers
from loadtest.relay.load.chunks import MODEL

START_S: Final = 60.0
_CONFIG: Final = Template("""\
[[backends]]
name = "bench"
engine = "vllm"
url = "$backend"
models = ["$model"]
max_inflight = $inflight
""")


class _Service(msgspec.Struct, frozen=True):
    """One line of the ready-file; it may hold more than is read here."""

    name: str
    #: Null for what was there before and is only used.
    pid: int | None = None
    url: str | None = None
    ops_url: str | None = None


class _Ready(msgspec.Struct, frozen=True):
    services: list[_Service]


class Headrace:
    """Us. The edge alone is on the token path; control only answers where to go."""

    name = "headrace"
    interpreted = False

    def __init__(self) -> None:
        self._child: Child | None = None
        self._edge_pid = 0

    def available(self) -> str | None:
        """It needs the `launch` package beside this one."""
        if importlib.util.find_spec("launch") and importlib.util.find_spec("launch.__main__"):
            return None
        return "the launch package is not installed"

    def version(self) -> str:
        """Return the installed version."""
        try:
            return importlib.metadata.version("headrace")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def start(self, backend_url: str, cpus: set[int], scratch: Path) -> str:
        """Start it and wait for its ready-file, and for a route to the backend."""
        config, ready, log = scratch / "headrace.toml", scratch / "ready.json", scratch / "headrace.log"
        config.write_text(_CONFIG.substitute(backend=backend_url, model=MODEL, inflight=2 * CONNECTIONS))
        ready.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "launch", "up", "--config", str(config), "--port-base", "0",
            "--ready-file", str(ready),
        ]  # fmt: skip
        self._child = Child(self.name, command, cpus=cpus, log=log)
        deadline = time.monotonic() + START_S
        edge: _Service | None = None
        while True:
            edge = edge or self._edge(ready)
            if edge and edge.pid and edge.url and edge.ops_url and answers(edge.ops_url, "/readyz", 1.0):
                self._edge_pid = edge.pid
                return edge.url
            if self._child.ended_within(0.05) or time.monotonic() > deadline:
                epitaph = self._child.epitaph("does not serve")
                self.stop()
                raise GatewayError(epitaph)

    @staticmethod
    def _edge(ready: Path) -> _Service | None:
        """Return the edge's entry once the ready-file is whole."""
        try:
            services = msgspec.json.decode(ready.read_bytes(), type=_Ready).services
        except FileNotFoundError:
            return None
        except msgspec.ValidationError as error:
            raise GatewayError(f"headrace's ready-file is not as agreed: {error}") from error
        except msgspec.DecodeError:
            return None  # Being written.
        return next((service for service in services if service.name.startswith("edge")), None)

    def pids(self) -> tuple[int, ...]:
        """Return the supervisor, whose tree holds all services."""
        return (self._child.pid,) if self._child else ()

    def path_pids(self) -> tuple[int, ...]:
        """Return the edge."""
        return (self._edge_pid,) if self._edge_pid else ()

    def stop(self) -> None:
        """End all of it."""
        self._edge_pid = 0
        if child := self._child:
            self._child = None
            child.stop()
