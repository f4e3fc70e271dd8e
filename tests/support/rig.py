"""A gateway whose parts a test may kill and start again: simulators, control and edge, each a process of its own.

`headrace up` brings back what dies; here nothing does, so a test sees what the gateway does without the part.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.exchange import Answer, ask, chat
from tests.support.processes import Running, launch, until
from tests.support.timing import FACTOR

__all__ = ["MODEL", "Rig", "ms", "rig"]

MODEL = "tiny"
_SERIES = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SIMULATOR = {"models": [MODEL], "ttft_ms": 2.0, "itl_ms": 1.0, "itl_growth": 0.0}
#: Short enough for a test, long enough for a busy machine.
_EDGE = {"sync_wait_ms": 200, "drain_ms": 1_000, "breaker_failures": 1_000}
_CONTROL = {"probe_interval_ms": 100, "down_after_failures": 2, "route_ttl_ms": 500, "shed_ttl_ms": 50}

Table = Mapping[str, Any]


def ms(milliseconds: int) -> int:
    """Return a deadline for a setting, stretched on a slow machine as the tests' own deadlines are."""
    return int(milliseconds * FACTOR)


@dataclass
class Rig:
    """Running services. Backends are tried in the order of their names' regions: the first is preferred."""

    folder: Path
    _stack: contextlib.ExitStack = field(repr=False)
    services: dict[str, Running] = field(default_factory=dict)
    _simulators: dict[str, Table] = field(default_factory=dict)
    _lives: int = 0

    # Where things are.

    @property
    def url(self) -> str:
        """Where clients go."""
        return str(self.services["edge"].ready()["url"])

    def url_of(self, name: str) -> str:
        """Where one service answers."""
        return str(self.services[name].ready()["url"])

    def ops_url(self, name: str = "edge") -> str:
        """Where a service's health and metrics are."""
        return str(self.services[name].ready()["ops_url"])

    # What they say.

    def metrics(self, name: str = "edge") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every series of `/metrics`, by name and labels."""
        page = ask(self.ops_url(name), "/metrics").body.decode()
        found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for line in page.splitlines():
            if match := _SERIES.match(line):
                labels = frozenset(_LABEL.findall(match["labels"] or ""))
                found[match["name"], labels] = float(match["value"])
        return found

    def metric(self, metric: str, /, **labels: str) -> float:
        """Return the sum of the edge's series of a metric that have these labels; 0 where there is none."""
        asked = set(labels.items())
        series = self.metrics().items()
        return sum(value for (name, found), value in series if name == metric and asked <= found)

    def stats(self, name: str = "alpha") -> dict[str, int]:
        """Return a simulator's own counters."""
        found: dict[str, int] = ask(self.ops_url(name), "/sim/stats").json
        return found

    def started(self) -> dict[str, int]:
        """Return how many generating requests each simulator has taken so far."""
        return {name: self.stats(name)["started"] for name in self._simulators}

    def lines(self, event: str = "stream.end") -> list[dict[str, Any]]:
        """Return the edge's log lines of one event."""
        lines = [line for line in self.services["edge"].output().splitlines() if line.startswith("{")]
        return [found for line in lines if (found := json.loads(line))["event"] == event]

    def line(self, request_id: str, *, within_ms: int = 5_000) -> dict[str, Any]:
        """Wait for the canonical line of one request and return it; there must be one only."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["request_id"] == request_id]

        lines = until(found, ms=within_ms, what=f"the canonical line of {request_id}")
        assert len(lines) == 1, lines
        return lines[0]

    # Waiting.

    def wait_quiet(self, *, simulators: Sequence[str] = ()) -> None:
        """Wait until no simulator works and the edge holds no permit, no stream and no byte."""
        names = simulators or [name for name in self._simulators if self.services[name].process.poll() is None]

        def quiet() -> bool:
            busy = [self.stats(name) for name in names]
            return not any(stats["running"] + stats["waiting"] + stats["open"] for stats in busy) and not self.held()

        until(quiet, what=f"everything given back: {self.held()}")

    def held(self) -> dict[str, float]:
        """Return what the edge holds for requests now, by metric; empty when it holds nothing."""
        watched = ("headrace_attempts_inflight", "headrace_streams_open", "headrace_buffered_bytes")
        return {
            f"{name} {dict(labels)}": value
            for (name, labels), value in self.metrics().items()
            if value
            and (name in watched or (name == "headrace_upstream_connections" and ("state", "active") in labels))
        }

    def wait_models(self, *models: str) -> None:
        """Wait until the edge lists these models."""

        def listed() -> bool:
            answer = ask(self.url, "/v1/models")
            return answer.status == 200 and set(models) <= {row["id"] for row in answer.json["data"]}

        until(listed, what=f"the edge lists {models}")

    def heal(self, *, rounds: int = 4) -> None:
        """Give the preferred backend and its fall-back good attempts, so that no failure ratio opens a breaker."""
        for sim in ["tokens=1"] * rounds + ["@alpha status=503; tokens=1"] * (len(self._simulators) > 1):
            answer = self.post(chat(), {"x-sim": sim})
            assert answer.status == 200, answer.body

    def post(self, body: Table, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one chat request through the edge and return its whole answer."""
        return ask(self.url, "/v1/chat/completions", body, headers=headers)

    # Ending and starting.

    def kill(self, name: str) -> None:
        """End a service as a crash would: SIGKILL, and wait for it to be gone."""
        self.services[name].send(signal.SIGKILL)
        self.services[name].wait()

    def start_simulator(self, name: str, settings: Table | None = None, *, wait: bool = True) -> None:
        """Start a simulator, again on its old port when it ran before; `wait` until it answers."""
        ports = ["--port", "0"]
        if name in self.services:
            ports = ["--port", self.ops_url(name).rsplit(":", 1)[1]]
            if self.url_of(name).startswith("grpc:"):
                ports += ["--grpc-port", self.url_of(name).rsplit(":", 1)[1]]
        self._simulators[name] = settings if settings is not None else self._simulators[name]
        self._write(f"{name}.toml", {"simulator": {**_SIMULATOR, **self._simulators[name]}})
        self._start(name, "simulate", "--name", name, *ports, file=f"{name}.toml")
        if wait:
            self.services[name].ready()

    def start_control(self) -> None:
        """Start control; again on its old port when it ran before."""
        port = self.url_of("control").rsplit(":", 1)[1] if "control" in self.services else "0"
        self._start("control", "control", "--port", port, "--ops-port", "0")
        self.services["control"].ready()

    def start_edge(
        self, name: str = "edge", *, control_url: str | None = None, settings: Table | None = None
    ) -> None:
        """Start an edge, of the rig's own control or another; `settings` are this one's, over the rig's."""
        where, file = control_url or self.url_of("control"), "headrace.toml"
        if settings is not None:
            file = f"{name}.toml"
            self._write(file, {"edge": {**_EDGE, **settings}})
        self._start(name, "edge", "--port", "0", "--ops-port", "0", "--control-url", where, file=file)
        self.services[name].ready()

    def _start(self, name: str, command: str, *arguments: str, file: str = "headrace.toml") -> None:
        self._lives += 1
        life = f"{name}-{self._lives}"
        options = ("--config", str(self.folder / file), *arguments)
        self.services[name] = self._stack.enter_context(launch(command, *options, folder=self.folder, name=life))

    def _write(self, file: str, tables: Mapping[str, Any]) -> None:
        (self.folder / file).write_text("\n".join(_toml(name, table) for name, table in tables.items()))


@contextlib.contextmanager
def rig(
    folder: Path,
    simulators: Mapping[str, Table] | None = None,
    *,
    edge: Table | None = None,
    control: Table | None = None,
    backends: Table | None = None,
    tables: Mapping[str, Sequence[Table]] | None = None,
    without: Sequence[str] = (),
) -> Iterator[Rig]:
    """Run simulators, control and an edge for the length of the block.

    Args:
        folder: for configuration, logs and ready files.
        simulators: settings by name, over a fast one's; the first is preferred. None = `alpha` and `beta`.
        edge: settings over the rig's own.
        control: settings over the rig's own.
        backends: settings of every backend.
        tables: further arrays of tables of the file: `aliases`, `models`.
        without: services that the test starts by itself, of "control" and "edge".
    """
    with contextlib.ExitStack() as stack:
        ours = Rig(folder, stack)
        given = {"alpha": {}, "beta": {}} if simulators is None else simulators
        for name, settings in given.items():
            ours.start_simulator(name, settings, wait=False)
        # The edge stands in the first backend's region, so the order is certain.
        common = {"engine": "vllm", "simulated": True, **(backends or {})}
        rows = [{"name": name, "url": ours.url_of(name), "region": name, **common} for name in given]
        region = {"region": next(iter(given), "")}
        written = {"edge": _in_order({**_EDGE, **region, **(edge or {})}), "control": {**_CONTROL, **(control or {})}}
        ours._write("headrace.toml", {**written, "backends": rows, **(tables or {})})
        if "control" not in without:
            ours.start_control()
            if "edge" not in without:
                ours.start_edge()
                ours.wait_models(*([MODEL] if given else []))
                until(lambda: ask(ours.url_of("control"), "/v1/backends").body.count(b'"up"') == len(given))
        yield ours


def _in_order(edge: Table) -> Table:
    """Return an edge's settings with what must be over before it commits, where a test commits early."""
    if "commit_after_ms" not in edge:
        return edge
    before = edge["commit_after_ms"] - 1
    return {"route_timeout_ms": min(1_000, before), "queue_ms": min(5_000, before), **edge}


def _toml(name: str, table: Table | Sequence[Table]) -> str:
    if isinstance(table, Mapping):
        return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    return "\n".join(_toml(f"[{name}]", row) for row in table)
