"""Headrace itself: control and one edge, started by `launch` as a user starts them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from string import Template
from typing import Final

from loadtest.launched import SiteError, headrace, served, services
from loadtest.relay.children import Child
from loadtest.relay.gateways.base import CONNECTIONS, GatewayError, answers
from loadtest.relay.load.chunks import MODEL

#: Names a checkout of another version, which runs as `headrace-before`.
BEFORE: Final = "HEADRACE_BEFORE"
_CONFIG: Final = Template("""\
[[backends]]
name = "bench"
engine = "vllm"
url = "$backend"
models = ["$model"]
max_inflight = $inflight
""")


class Headrace:
    """Us. The edge alone is on the token path; control only answers where to go.

    Args:
        websocket: streams are asked for at `/v1/ws`, one to a socket.
        checkout: another version's files, which run in this environment; for a change's cost within one run.
    """

    interpreted = False

    def __init__(self, *, websocket: bool = False, checkout: Path | None = None) -> None:
        self.name = "headrace-ws" if websocket else "headrace" if checkout is None else "headrace-before"
        self.websocket = websocket
        self._checkout = checkout
        self._child: Child | None = None
        self._edge_pid = 0
        self._url = ""

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
        command = headrace("up", "--config", str(config), "--port-base", "0", "--ready-file", str(ready))
        other = {"PYTHONPATH": str(self._checkout)} if self._checkout is not None else None
        self._child = child = Child(self.name, command, cpus=cpus, log=log, environment=other)
        try:
            served(child, lambda: self._serves(ready))
        except SiteError as error:
            self.stop()
            raise GatewayError(str(error)) from error
        return self._url

    def _serves(self, ready: Path) -> bool:
        edge = services(ready).get("edge")
        if edge is None or edge.pid is None or edge.url is None or edge.ops_url is None:
            return False
        self._url, self._edge_pid = edge.url, edge.pid
        return answers(edge.ops_url, "/readyz", 1.0)

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
