"""One simulated engine, all services as `headrace up` runs them on free ports, and a Prometheus that scrapes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from loadtest.launched import Service, SiteError, headrace, served, services
from loadtest.live.prometheus import Prometheus
from loadtest.relay.children import Child
from loadtest.relay.gateways.base import answers, free_port

__all__ = ["AT_A_TIME", "AVATAR", "MODEL", "Site", "SiteError"]

MODEL: Final = "sim-chat"
#: The one that there is where a file names none.
AVATAR: Final = "reference"
#: Streams at a time; more wait in line.
AT_A_TIME: Final = 8
_FILE: Final = """\
[edge]
queue_ms = 5_000

[control]
probe_interval_ms = 500

[arbiter]
inventory = "static"
static_gpus_mb = [6144]

[nats]
[[backends]]
name = "sim"
engine = "vllm"
url = "{engine}"
simulated = true
max_inflight = {at_a_time}
"""
_FACES: Final = """
[inference]

[compositor]

[observe]

[prober]
every_ms = 500
"""
_ENGINE: Final = """\
[simulator]
models = ["{model}"]
ttft_ms = 40.0
prefill_ms_per_token = 0.2
itl_ms = 10.0
itl_growth = 0.05
max_num_seqs = {at_a_time}
"""


class Site:
    """A context manager.

    Args:
        folder: for configuration, data and logs.
        rules: rule files for Prometheus.
        whole: with avatars, probes and gathered events; without them the machine has more to spare for streams.

    Raises:
        SiteError: on entry, when it does not start.
        QueryError: when Prometheus does not.
    """

    def __init__(self, folder: Path, *, rules: tuple[Path, ...] = (), whole: bool = True) -> None:
        self.whole = whole
        self._folder = folder
        self._rules = rules
        self._stack = ExitStack()
        self._services: dict[str, Service] = {}
        self.ready_file = folder / "ready.json"
        self.prometheus: Prometheus

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            engine = f"http://127.0.0.1:{free_port()}"
            sim = self._folder / "engine.toml"
            sim.write_text(_ENGINE.format(model=MODEL, at_a_time=AT_A_TIME))
            simulate = headrace("simulate", "--config", str(sim), "--port", engine.rsplit(":", 1)[1])
            self._start(stack, "simulate", simulate, lambda: answers(engine, "/health", 1.0))
            config = self._folder / "headrace.toml"
            text = _FILE.format(engine=engine, at_a_time=AT_A_TIME)
            config.write_text(text + _FACES if self.whole else text)
            up = headrace("up", "--config", str(config), "--port-base", "0", "--ready-file", str(self.ready_file))
            self._start(stack, "up", up, self._serves)
            jobs: dict[str, list[str]] = {}
            for service in self._services.values():
                if service.ops_url:
                    jobs.setdefault(f"headrace-{service.kind}", []).append(urlsplit(service.ops_url).netloc)
            cpus = os.sched_getaffinity(0)
            self.prometheus = Prometheus(jobs, self._folder, rules=self._rules, cpus=cpus)
            stack.callback(self.prometheus.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def edge(self) -> str:
        """Where clients go."""
        return self._services["edge"].url or ""

    def grpc(self, name: str) -> str:
        """Return `host:port` of a service that speaks gRPC: `arbiter`, `inference`."""
        return urlsplit(self._services[name].url or "").netloc

    def _start(self, stack: ExitStack, name: str, command: list[str], serves: Callable[[], bool]) -> None:
        child = Child(name, command, cpus=os.sched_getaffinity(0), log=self._folder / f"{name}.log")
        stack.callback(child.stop)
        served(child, serves)

    def _serves(self) -> bool:
        self._services = services(self.ready_file)
        return "edge" in self._services and answers(self.edge, f"/v1/models/{MODEL}", 1.0)
