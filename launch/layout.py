"""One machine's services as far as they are known: where each answers, what file it reads, how it is started."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from launch.avatar import joined
from launch.broker import broker
from launch.child import Child, Program
from launch.configuration import Configuration
from launch.folder import made_store
from launch.observed import observing, probing
from launch.ports import PORT_BASE
from streamkit.wire.address import place
from streamkit.wire.backend import Backend, Engine

__all__ = ["ARBITER", "COMPOSITOR", "CONTROL", "EDGE", "INFERENCE", "NATS", "OBSERVE", "Layout"]

ARBITER: Final = "arbiter"
COMPOSITOR: Final = "compositor"
CONTROL: Final = "control"
EDGE: Final = "edge"
INFERENCE: Final = "inference"
OBSERVE: Final = "observe"
NATS: Final = "nats"
#: What a backend calls the engine that a simulator stands in for.
_ENGINES: Final[dict[str, Engine]] = {
    "vllm": "vllm",
    "ollama": "ollama",
    "llama-server": "openai",
    "tfserving": "tfserving",
}


@dataclass
class Layout:
    """What runs on one machine, and where.

    Args:
        plan: what to run; port 0 takes a free one.
        folder: for the effective configuration, logs and ready files.
    """

    plan: Configuration
    folder: Path
    #: Those that run or ran, by name: their ready files say where they answer.
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The effective configuration, as the children read it."""
        return self.folder / "headrace.toml"

    @property
    def simulator(self) -> str | None:
        """The simulator's name, if there is one."""
        return self.plan.simulator.name if self.plan.simulator else None

    def backends(self) -> tuple[Backend, ...]:
        """The plan's backends, and the simulator once its address is known."""
        simulator = self.plan.simulator
        if simulator is None:
            return self.plan.backends
        predicts = simulator.engine == "tfserving"
        port = simulator.grpc_port if predicts else simulator.port
        url = self._url(simulator.name, simulator.host, port, scheme="grpc" if predicts else "http")
        if url is None:
            return self.plan.backends
        models = simulator.models if predicts else ()
        engine = _ENGINES[simulator.engine]
        own = Backend(name=simulator.name, engine=engine, url=url, models=models, simulated=True)
        return (*self.plan.backends, own)

    def starts(self) -> dict[str, Callable[[], list[str] | Program]]:
        """Return how each service is started, in the order in which one needs another."""
        starts: dict[str, Callable[[], list[str] | Program]] = {}
        if self.simulator is not None:
            starts[self.simulator] = lambda: self._arguments("simulate", str(self.simulator), ops=False)
        if self.plan.nats is not None:
            starts[NATS] = self._broker
        if self.plan.arbiter is not None:
            starts[ARBITER] = lambda: self._arguments("arbiter", ARBITER)
        if self.plan.inference is not None:
            starts[INFERENCE] = lambda: self._arguments("inference", INFERENCE)
        if self.plan.compositor is not None:
            starts[COMPOSITOR] = lambda: self._arguments("compositor", COMPOSITOR)
        starts[CONTROL] = lambda: self._arguments("control", CONTROL)
        starts[EDGE] = lambda: [*self._arguments("edge", EDGE), "--control-url", str(self._control_url())]
        if self.plan.observe is not None:
            starts[OBSERVE] = lambda: self._arguments("observe", OBSERVE)
        return starts

    def write(self) -> None:
        """Write the effective configuration: the plan, with what is known by now."""
        control = self.plan.control
        if not control.store_path:
            control = msgspec.structs.replace(control, store_path=made_store(PORT_BASE, self.folder))
        arbiter = self.plan.arbiter
        if arbiter is not None and not arbiter.state_dir:
            arbiter = msgspec.structs.replace(arbiter, state_dir=str((self.folder / ARBITER).resolve()))
        nats = self.plan.nats and self._url(NATS, self.plan.nats.host, self.plan.nats.port, scheme="nats")
        if nats:
            control = msgspec.structs.replace(control, nats_url=control.nats_url or nats)
            arbiter = arbiter and msgspec.structs.replace(arbiter, nats_url=arbiter.nats_url or nats)
        edge = self.plan.edge
        if control.tls_cert and not edge.control_ca:  # its URL is given on the command line, when it is known
            edge = msgspec.structs.replace(edge, control_ca=control.tls_cert)
        found = dataclasses.replace(self.plan, edge=edge, backends=self.backends(), control=control, arbiter=arbiter)
        found = joined(found, self._url)
        if found.observe is not None:
            observe = observing(self.plan, self.children, self.folder, nats or "")
            prober = probing(self.plan, self._edge_url, self._control_url())
            found = dataclasses.replace(found, observe=observe, prober=prober)
        self.file.write_text(found.document("Written by `headrace up`: what runs here."), encoding="utf-8")

    def take(self, plan: Configuration) -> list[str]:
        """Take of another plan what running services can take, and write it.

        Returns:
            What has changed and cannot be taken without a restart.
        """
        taken = ("edge", "backends", "models")
        left = [
            f"[[{name}]]" if isinstance(getattr(plan, name), tuple) else f"[{name}]"
            for name in (each.name for each in dataclasses.fields(plan))
            if name not in taken and getattr(plan, name) != getattr(self.plan, name)
        ]
        fixed = ("host", "port", "ops_port", "workers")
        now = self.plan.edge
        changed = [name for name in now.__struct_fields__ if getattr(plan.edge, name) != getattr(now, name)]
        left += (f"edge.{name}" for name in changed if not now.workers or name in fixed)
        edge = msgspec.structs.replace(plan.edge, **{name: getattr(now, name) for name in fixed})
        self.plan = dataclasses.replace(self.plan, edge=edge, backends=plan.backends, models=plan.models)
        self.write()
        return left

    def _broker(self) -> Program:
        settings = self.plan.nats
        if settings is None:
            raise RuntimeError("no NATS server was asked for")
        port = int(_port(self.children[NATS].ready["url"])) if NATS in self.children else settings.port
        site = self.plan.observe.broker() if self.plan.observe is not None else None
        return broker(settings, self.folder, port, site=site)

    def _arguments(self, command: str, name: str, *, ops: bool = True) -> list[str]:
        """Return a service's command line; a next life takes the ports of the one before."""
        arguments = [command, "--config", str(self.file)]
        if name in self.children:
            ready = self.children[name].ready
            if ops:
                arguments += ["--port", _port(ready["url"]), "--ops-port", _port(ready["ops_url"])]
            else:
                arguments += ["--port", _port(ready["ops_url"])]
                if ready["url"].startswith("grpc:"):
                    arguments += ["--grpc-port", _port(ready["url"])]
        return arguments

    def _control_url(self) -> str | None:
        control = self.plan.control
        return self._url(CONTROL, control.host, control.port, scheme="https" if control.tls_cert else "http")

    def _edge_url(self, name: str, host: str, port: int) -> str | None:
        return self._url(name, host, port, scheme="https" if self.plan.edge.tls_cert else "http")

    def _url(self, name: str, host: str, port: int, *, scheme: str = "http") -> str | None:
        """Return where a service answers, or will; None = not known yet."""
        if name in self.children:
            return str(self.children[name].ready["url"])
        return f"{scheme}://{place(host, port)}" if port else None


def _port(url: str) -> str:
    return url.rsplit(":", 1)[-1].rstrip("/")
