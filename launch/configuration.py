"""What one machine runs: every service's settings together, as a file could hold them, on ports of one base."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from launch import toml
from launch.ports import ARBITER_OFFSET, COMPOSITOR_OFFSET, INFERENCE_OFFSET, NATS_OFFSET, SIMULATOR_OFFSET, moved
from streamkit.wire.backend import Backend
from streamkit.wire.models import Models

if TYPE_CHECKING:
    from compositor.settings import AvatarSettings, CompositorSettings
    from compositor.speech.settings import SpeechSettings
    from control.settings import ControlSettings
    from core_gpu.arbiter.settings import ArbiterSettings
    from core_gpu.inference.settings import InferenceSettings
    from core_gpu.modes.settings import Budget, GpuSettings
    from edge.settings import EdgeSettings
    from launch.broker import NatsSettings
    from observe.settings import HealingSettings, ObserveSettings, ProberSettings
    from simulator.settings import SimulatorSettings

__all__ = ["Configuration"]

_OWN_PORTS: Final = ("arbiter", "inference", "compositor", "simulator")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that one machine runs."""

    edge: EdgeSettings
    control: ControlSettings
    backends: tuple[Backend, ...]
    #: None = no simulator is started.
    simulator: SimulatorSettings | None
    #: None = no arbiter is started.
    arbiter: ArbiterSettings | None = None
    #: Aliases and policies of models.
    models: Models = field(default_factory=Models)
    #: Who may have how much of this host's GPUs.
    budgets: tuple[Budget, ...] = ()
    gpu: GpuSettings | None = None
    #: None = no NATS server is started.
    nats: NatsSettings | None = None
    #: None = no avatar services are started.
    inference: InferenceSettings | None = None
    speech: SpeechSettings | None = None
    compositor: CompositorSettings | None = None
    avatars: tuple[AvatarSettings, ...] = ()
    #: None = no observability centre is started.
    observe: ObserveSettings | None = None
    #: None = nothing is probed.
    prober: ProberSettings | None = None
    healing: HealingSettings | None = None

    def document(self, heading: str) -> str:
        """Return this configuration as TOML."""
        tables: dict[str, Any] = {"edge": toml.changed(self.edge), "control": toml.changed(self.control)}
        names = ("arbiter", "inference", "compositor", "speech", "nats", "observe", "prober", "healing", "simulator")
        for name in (*names, "gpu"):
            found = getattr(self, name)
            if found is not None:
                # These ports are never left to a default: the struct's and the file's are not the same.
                port = {"port": found.port} if name in _OWN_PORTS else {}
                tables[name] = {**port, **toml.changed(found)}
        # Its fields' defaults are those of the drawn face: an avatar is always written whole.
        tables["avatars"] = [msgspec.to_builtins(avatar) for avatar in self.avatars]
        tables["budgets"] = [toml.changed(budget) for budget in self.budgets]
        tables["backends"] = [toml.changed(backend) for backend in self.backends]
        tables["equivalents"] = [toml.changed(group) for group in self.models.equivalents]
        tables["aliases"] = [toml.changed(alias) for alias in self.models.aliases]
        tables["models"] = [toml.changed(model) for model in self.models.models]
        return toml.document(heading, tables)

    def on(self, base: int) -> Configuration:
        """Return this configuration with every port counted from `base`; 0 = free ports everywhere."""
        simulator = self.simulator
        return replace(
            self,
            edge=moved(self.edge, base),
            control=moved(self.control, base),
            simulator=simulator
            and msgspec.structs.replace(
                simulator, port=base and base + SIMULATOR_OFFSET, grpc_port=base and simulator.grpc_port
            ),
            arbiter=self.arbiter and _grpc_on(self.arbiter, base, ARBITER_OFFSET),
            inference=self.inference and _grpc_on(self.inference, base, INFERENCE_OFFSET),
            compositor=self.compositor and _grpc_on(self.compositor, base, COMPOSITOR_OFFSET),
            nats=self.nats and msgspec.structs.replace(self.nats, port=base and base + NATS_OFFSET),
            observe=self.observe and moved(self.observe, base),
        )

    def without_avatar(self) -> Configuration:
        """Return this configuration without the avatar services."""
        return replace(self, inference=None, compositor=None, avatars=())

    def with_edge_port(self, port: int) -> Configuration:
        """Return this configuration with the edge on `port`."""
        return replace(self, edge=msgspec.structs.replace(self.edge, port=port))


def _grpc_on(found: Any, base: int, offset: int) -> Any:
    return msgspec.structs.replace(moved(found, base), port=base and base + offset)
