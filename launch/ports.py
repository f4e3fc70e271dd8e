"""The ports of one machine's services, counted from one base."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from streamkit.ops.settings import SettingsError

if TYPE_CHECKING:
    from launch.configuration import Configuration

__all__ = [
    "ARBITER_OFFSET",
    "COMPOSITOR_OFFSET",
    "INFERENCE_OFFSET",
    "NATS_OFFSET",
    "PORT_BASE",
    "SIMULATOR_OFFSET",
    "Named",
    "check_ports",
    "moved",
    "ports",
]

#: A service's own default is its port on this base.
PORT_BASE: Final = 7400
#: The simulator's own default is any free port.
SIMULATOR_OFFSET: Final = 30
#: Started alone, the arbiter takes the port that its clients know by heart.
ARBITER_OFFSET: Final = 51
INFERENCE_OFFSET: Final = 52
COMPOSITOR_OFFSET: Final = 53
NATS_OFFSET: Final = 40
_PORT_MAX: Final = 65_535


class Named(NamedTuple):
    """A port and the key that sets it."""

    key: str
    port: int


def ports(found: Configuration) -> Iterator[Named]:
    """Yield every port that this configuration listens on, 0 included."""
    yield Named("edge.port", found.edge.port)
    for worker in range(max(1, found.edge.workers)):
        yield Named("edge.ops_port", found.edge.ops_port and found.edge.ops_port + worker)
    yield Named("control.port", found.control.port)
    yield Named("control.ops_port", found.control.ops_port)
    if found.simulator is not None:
        yield Named("simulator.port", found.simulator.port)
        if found.simulator.engine == "tfserving":
            yield Named("simulator.grpc_port", found.simulator.grpc_port)
    if found.nats is not None:
        yield Named("nats.port", found.nats.port)
    if found.observe is not None:
        yield Named("observe.port", found.observe.port)
        yield Named("observe.ops_port", found.observe.ops_port)
    if found.inference is not None:
        yield Named("inference.port", found.inference.port)
        yield Named("inference.ops_port", found.inference.ops_port)
    if found.compositor is not None:
        yield Named("compositor.port", found.compositor.port)
        yield Named("compositor.ops_port", found.compositor.ops_port)
    if found.arbiter is not None:
        yield Named("arbiter.port", found.arbiter.port)
        yield Named("arbiter.ops_port", found.arbiter.ops_port)


def check_ports(found: Configuration, where: str) -> None:
    """Return if all services can listen beside each other.

    Args:
        found: what runs on one machine.
        where: what says so, as the person knows it.

    Raises:
        SettingsError: two have the same port, or one has none that exists.
    """
    taken: dict[int, str] = {}
    for key, number in ports(found):
        if number > _PORT_MAX:
            raise SettingsError(f"{where}: {key}: expected a port of at most {_PORT_MAX}, got {number}")
        if number in taken:
            raise SettingsError(f"{where}: {key}: {number} is {taken[number]} already")
        if number:
            taken[number] = key


def moved(found: Any, base: int) -> Any:
    """Return settings with both ports counted from `base`; 0 = free ones."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(found)}
    on_base = {name: base and base + defaults[name] - PORT_BASE for name in ("port", "ops_port")}
    return msgspec.structs.replace(found, **on_base)
